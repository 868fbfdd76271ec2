#!/bin/bash
# A real Slurm of one node, six heads, one of them broken and one with too little memory: what fails is told, and what
# failed is submitted again, once mended, with more memory. As root on Debian, with Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=$PWD/${VENV:-.venv}/bin
source tests/cluster/slurm.sh

if ! command -v slurmctld sbatch munged parallel >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y slurm-wlm munge parallel >/dev/null
fi
folder=$(mktemp -d)
chmod 755 "$folder"  # munge is another user
bids=$folder/bids out=$folder/out
chain=(--pipeline fast --separation none)
finish() {
    stop_slurm >/dev/null 2>&1
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
fail() {
    echo "FAILED: $*" >&2
    tail -n 20 "$out"/logs/cluster/*/*.log >&2
    exit 1
}
cluster() { "$bin/qsmprep-tools" cluster "$bids" "$out" "$@"; }
submit() { cluster --engine slurm --submit --cpus 1 --work-dir "$folder/work" --mem "$@" -- "${chain[@]}"; }
table() { cluster --status | sed "s#$folder/##g" | tee "$folder/table" || true; }
state() { grep -q "^sub-$1  *$2" "$folder/table" || fail "sub-$1 should be $2${3:+, $3}"; }
wait_for_jobs() {
    for _ in $(seq 600); do
        [ -z "$(squeue --noheader)" ] && return 0
        sleep 2
    done
    fail "the jobs do not end"
}

say "six heads of 6 mm; the phase of sub-03 is cut short"
"$bin/qsmprep-tools" simulate "$folder/one" --voxel-size 6 --quiet
"$bin/qsmprep" "$folder/one" "$folder/once" participant --work-dir "$folder/once-work" "${chain[@]}" >/dev/null
mkdir "$bids"
cp "$folder/one/dataset_description.json" "$bids"
for label in 01 02 03 04 05 06; do
    mkdir -p "$bids/sub-$label/anat"
    for path in "$folder"/one/sub-01/anat/*; do
        name=$(basename "$path")
        cp "$path" "$bids/sub-$label/anat/${name/sub-01/sub-$label}"
    done
done
broken=$bids/sub-03/anat/sub-03_echo-2_part-phase_MEGRE.nii.gz
cp "$broken" "$folder/whole.nii.gz"
truncate --size=2000 "$broken"

say "a cluster of one node with two processors"
start_slurm "$folder/slurm" >"$folder/slurm.log" 2>&1 || fail "$(tail -n 5 "$folder/slurm.log")"

say "sub-06 gets 400 MB, the others 1200 MB"
submit 400M --participant-label 06
submit 1200M
say "asked again at once, nothing is submitted twice"
submit 1200M
table
for label in 01 02 03 04 05; do state "$label" '\(queued\|running\|failed\|done\)'; done
wait_for_jobs

say "the first round"
table
for label in 01 02 04 05; do state "$label" done; done
state 03 failed
grep -q '^sub-03 .*sub-03_echo-2_part-phase_MEGRE.nii.gz' "$folder/table" || fail "sub-03 should name its broken file"
state 06 killed
grep -q '^sub-06 .*400  needed more than its 400 MB' "$folder/table" || fail "sub-06 should tell of memory"
[ -s "$out/group_report.html" ] || ls "$out"/group*.html >/dev/null || fail "no group page over those that succeeded"

say "sub-03 is mended, the command is given again"
cp "$folder/whole.nii.gz" "$broken"
submit 400M
wait_for_jobs
table
for label in 01 02 03 04 05 06; do state "$label" done; done
grep -q '^sub-03 .* 1200$' "$folder/table" || fail "sub-03 should have the memory that it had"
grep -q '^sub-06 .* 800$' "$folder/table" || fail "sub-06 should have twice the memory"
tail -n 1 "$out/logs/cluster/group.log"
grep -q '^6 runs of 6 subjects' "$out/logs/cluster/group.log" || fail "the group page should hold all six"
cluster --status >/dev/null || fail "--status should end with 0 when all is done"
say "and once more"
submit 400M

say "the same maps as without a cluster"
cmp "$folder/once/sub-01/anat/sub-01_Chimap.nii.gz" "$out/sub-01/anat/sub-01_Chimap.nii.gz" || fail "another map"
cmp "$folder/once/sub-01/anat/sub-01_Chimap.nii.gz" "$out/sub-06/anat/sub-06_Chimap.nii.gz" || fail "another map"

say "GNU parallel, two heads at one time"
parallel --jobs 2 --joblog "$folder/parallel.log" --resume-failed "$bin/qsmprep" "$bids" "$folder/parallel" participant \
    --participant-label {} --work-dir "$folder/parallel-work" --nprocs 1 --mem-mb 2000 --skip-bids-validation \
    "${chain[*]}" ::: 01 02 >/dev/null
cut -f 1,4,7,9 "$folder/parallel.log" | sed "s#$folder/##g; s#$bin/##g"
cmp "$folder/once/sub-01/anat/sub-01_Chimap.nii.gz" "$folder/parallel/sub-02/anat/sub-02_Chimap.nii.gz" || fail "another map"

say "one head, each step a job of Slurm by nipype's plugin"
echo '{"plugin": "SLURM", "plugin_args": {"sbatch_args": "--partition=main"}}' >"$folder/plugin.json"
steps() { "$bin/qsmprep" "$bids" "$folder/steps" participant --participant-label 01 --work-dir "$folder/steps-work" \
    --skip-bids-validation "${chain[@]}" --nipype-plugin-file "$@"; }
steps "$folder/plugin.json" | tail -n 1 | sed "s#$folder/##g"
echo "$(ls "$folder"/steps-work/jobs/*.sh | wc -l) jobs, the last of Slurm: $(sbatch --parsable --wrap=true --output=/dev/null)"
cmp "$folder/once/sub-01/anat/sub-01_Chimap.nii.gz" "$folder/steps/sub-01/anat/sub-01_Chimap.nii.gz" || fail "another map"
echo '{"plugin": "SLURMGraph"}' >"$folder/graph.json"
status=0
steps "$folder/graph.json" 2>&1 | tail -n 1 | sed "s#$folder/##g" || status=$?
[ "$status" = 2 ] || fail "SLURMGraph should be refused"

say "all is well"
