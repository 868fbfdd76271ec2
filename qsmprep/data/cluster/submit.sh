#!/bin/bash
# Submits what qsmprep-tools cluster planned: {{ tasks }} tasks, and behind them the group report.
# An array that was submitted is not submitted again.
set -euo pipefail
cd {{ jobs_dir | quote }}

{% if engine == "slurm" %}
submit() {  # SCRIPT JOB...: behind jobs that have ended, however they ended
    local script=$1
    shift
    sbatch --parsable ${1:+--dependency=afterany:$(IFS=:; echo "$*")} "$script" | sed 's/;.*//'
}
{% elif engine == "pbs" %}
submit() {  # SCRIPT JOB...: behind jobs that have ended, however they ended
    local script=$1
    shift
    qsub ${1:+-W depend=afterany:$(IFS=:; echo "$*")} "$script"
}
{% else %}
submit() {  # SCRIPT JOB...: behind jobs that have ended, however they ended
    local script=$1
    shift
    qsub -terse ${1:+-hold_jid $(IFS=,; echo "$*")} "$script" | sed 's/[.].*//'
}
{% endif %}

jobs=()
for batch in {{ batches | join(" ") }}; do
    if [ ! -s $batch/job ]; then
        submit $batch/participants.sh{% if one_by_one %} ${jobs[@]: -1}{% endif %} >$batch/job
    fi
    jobs+=("$(cat $batch/job)")
    echo "$batch: job ${jobs[-1]}"
done
group=$(submit group.sh "${jobs[@]}")
echo "group: job $group"
