#!/bin/bash
#$ -N {{ name }}
{% if tasks %}
#$ -t 1-{{ tasks }}{% if max_parallel %} -tc {{ max_parallel }}{% endif %}

{% endif %}
{% if cpus > 1 %}
#$ -pe smp {{ cpus }}
{% endif %}
#$ -l h_vmem={{ memory_mb // cpus }}M
{% if time %}
#$ -l h_rt={{ time }}
{% endif %}
{% if partition %}
#$ -q {{ partition }}
{% endif %}
{% if account %}
#$ -P {{ account }}
{% endif %}
{% if gpus %}
#$ -l gpu={{ gpus }}
{% endif %}
#$ -S /bin/bash -V -j y -o {{ folder }}/{{ "$TASK_ID.log" if tasks else "group.log" }}
{% for line in directives %}
#$ {{ line }}
{% endfor %}
{% if tasks %}

index=$SGE_TASK_ID
job=${JOB_ID}_$index
{% endif %}
