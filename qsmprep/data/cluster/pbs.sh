#!/bin/bash
#PBS -N {{ name }}
{% if tasks > 1 %}
#PBS -J 1-{{ tasks }}{% if max_parallel %}%{{ max_parallel }}{% endif %}

{% endif %}
#PBS -l select=1:ncpus={{ cpus }}:mem={{ memory_mb }}mb{% if gpus %}:ngpus={{ gpus }}{% endif %}

{% if time %}
#PBS -l walltime={{ time }}
{% endif %}
{% if partition %}
#PBS -q {{ partition }}
{% endif %}
{% if account %}
#PBS -A {{ account }}
{% endif %}
#PBS -V -j oe -o {{ folder }}/{{ "^array_index^.log" if tasks > 1 else "1.log" if tasks else "group.log" }}
{% for line in directives %}
#PBS {{ line }}
{% endfor %}
{% if tasks %}

index=${PBS_ARRAY_INDEX:-1}
job=$PBS_JOBID
{% endif %}
