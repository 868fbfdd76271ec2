#!/bin/bash
#SBATCH --job-name={{ name }}
{% if tasks %}
#SBATCH --array=1-{{ tasks }}{% if max_parallel %}%{{ max_parallel }}{% endif %}

{% endif %}
#SBATCH --nodes=1 --ntasks=1 --cpus-per-task={{ cpus }}
#SBATCH --mem={{ memory_mb }}M
{% if time %}
#SBATCH --time={{ time }}
{% endif %}
{% if partition %}
#SBATCH --partition={{ partition }}
{% endif %}
{% if account %}
#SBATCH --account={{ account }}
{% endif %}
{% if gpus %}
#SBATCH --gres=gpu:{{ gpus }}
{% endif %}
#SBATCH --output="{{ folder }}/{{ "%a.log" if tasks else "group.log" }}"
{% for line in directives %}
#SBATCH {{ line }}
{% endfor %}
{% if tasks %}

index=$SLURM_ARRAY_TASK_ID
job=${SLURM_ARRAY_JOB_ID}_$index
{% endif %}
