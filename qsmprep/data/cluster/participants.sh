
# One {{ per }} a task, as line $index of tasks.txt says. Written by qsmprep-tools cluster, which overwrites it.
batch={{ folder | quote }}
cd {{ here | quote }} || exit 1
if ! read -r name selection < <(sed -n "${index}p" "$batch/tasks.txt"); then
    echo "$batch/tasks.txt has no line $index. Give the command that wrote it again." >&2
    exit 1
fi
work={{ work }}/$name

# What --status reads: a task that has begun, has not ended and is gone from the queue was killed.
rm -f "$batch/$index.ended"
echo "$job on $(hostname) at $(date --iso-8601=seconds)" >"$batch/$index.begun"
trap 'exit 143' TERM
trap 'status=$?; echo $status >"$batch/$index.ended"' EXIT

mkdir -p {{ output_dir | quote }} "$work"
{% for word in command %}
{{ word }}{{ " \\" if not loop.last }}
{% endfor %}
{% if clean_work %}
status=$?
[ $status -eq 0 ] && rm -rf "$work"
exit $status
{% endif %}
