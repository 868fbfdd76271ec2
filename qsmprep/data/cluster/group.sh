
# The page and the tables over every participant that succeeded. Written by qsmprep-tools cluster.
cd {{ here | quote }} || exit 1
{% for words in commands %}
{% for word in words %}
{{ word }}{{ " \\" if not loop.last }}
{% endfor %}
{% endfor %}
