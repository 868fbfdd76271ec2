#!/bin/bash
# Builds the image and uses it as on a foreign machine: no network, read-only root and dataset, a user without name or
# home. With docker where a daemon answers; else, as root on Debian, with buildah on a base that debootstrap makes.
# Prints the table of docs/scale.md. KEEP=yes keeps the built image and all files, and tells where. CACHE=FOLDER keeps
# Debian's base and the packages there for the next call.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C  # one order of names

work=$(mktemp -d /var/tmp/qsmprep-container.XXXXXX)
user=54321:54321
cache=/opt/cache/numba
fetched=${CACHE:-$work}
wheels=$fetched/wheels-$(cat pyproject.toml constraints.txt containers/dependencies.sh | sha256sum | cut -c1-12)
table=$work/table.md
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' qsmprep/__init__.py)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
engine=buildah
docker info > /dev/null 2>&1 && engine=docker
arguments=(--build-arg VERSION="$version" --build-arg REVISION="$revision")

store() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$driver" "$@"; }

clean() {
    if [ "${KEEP:-no}" = yes ]; then
        echo "Kept: $work"
        return
    fi
    if [ "$engine" = docker ]; then
        docker image rm --force qsmprep-test qsmprep-changed > /dev/null
    else
        { store umount --all && store rm --all; } > /dev/null 2>&1 || true
        umount "$work/storage/overlay" 2> /dev/null || true
    fi
    rm -rf "$work"
}
trap clean EXIT

# step TITLE COMMAND...: run it and write its time into the table.
step() {
    local title=$1 began
    shift
    echo "== $title"
    began=$(date +%s.%N)
    "$@"
    printf '| %s | %.0f s |\n' "$title" "$(echo "$(date +%s.%N) - $began" | bc)" >> "$table"
}

fail() { echo "containers/test.sh: $*" >&2; exit 1; }

install_programs() {
    local missing=() pair
    for pair in bc:bc git:git; do command -v "${pair%:*}" > /dev/null || missing+=("${pair#*:}"); done
    if [ "$engine" = buildah ]; then
        [ "$(id -u)" = 0 ] || fail "without docker this needs root"
        for pair in buildah:buildah debootstrap:debootstrap ip:iproute2; do
            command -v "${pair%:*}" > /dev/null || missing+=("${pair#*:}")
        done
        /usr/bin/python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
        [ -f qsmprep/data/viewer/niivue.js ] || command -v npm > /dev/null || missing+=(npm)
    fi
    [ ${#missing[@]} = 0 ] && return
    apt-get -o DPkg::Lock::Timeout=300 update -q
    apt-get -o DPkg::Lock::Timeout=300 install -q --yes --no-install-recommends "${missing[@]}"
}

# What a checkout holds, without what git ignores; with the viewer, where Node is no stage of the build.
copy_sources() {
    mkdir "$work/context"
    git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -x -C "$work/context"
    [ "$engine" = docker ] && return
    cp qsmprep/data/viewer/niivue* "$work/context/qsmprep/data/viewer/" 2> /dev/null || make -C "$work/context" viewer
}

# Debian's Python in place of the image python:3.11-slim-bookworm.
make_base() {
    local container
    if [ ! -d "$fetched/base" ]; then
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,libgomp1,binutils bookworm \
            "$fetched/base.new" > "$work/debootstrap.log"
        # As if apt had installed them for binutils: they go with it.
        chroot "$fetched/base.new" apt-mark auto '?name(^binutils-)' libbinutils libctf0 libctf-nobfd0 libgprofng0 \
            libjansson4 > /dev/null
        # Neither does the official image hold these.
        rm -rf "$fetched/base.new"/usr/share/doc/* "$fetched/base.new"/usr/share/man/* \
            "$fetched/base.new"/usr/share/locale/*
        rm -rf "$fetched/base.new"/var/cache/apt/* "$fetched/base.new"/var/lib/apt/lists/*
        mv "$fetched/base.new" "$fetched/base"
    fi
    container=$(store from scratch)
    store add --quiet "$container" "$fetched/base" /
    store config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    store commit --quiet "$container" base
    store rm "$container"
}

# Every package by this machine's own pip settings, so that the build needs no network.
collect_wheels() {
    [ ! -d "$wheels" ] || return 0
    local pip=$work/venv/bin/pip cpu=https://download.pytorch.org/whl/cpu
    /usr/bin/python3 -m venv "$work/venv"
    /usr/bin/python3 -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > "$work/requirements.txt"
    export PIP_CONSTRAINT=$PWD/constraints.txt PIP_WHEEL_DIR=$wheels.new
    "$pip" wheel --quiet --no-deps --retries 0 --timeout 10 --index-url "$cpu" torch 2> /dev/null \
        || "$pip" wheel --quiet --no-deps torch
    "$pip" wheel --quiet --find-links "$PIP_WHEEL_DIR" --requirement "$work/requirements.txt" bids-validator-deno
    unset PIP_CONSTRAINT
    "$pip" wheel --quiet "$(grep -o 'cyclonedx-bom==[0-9.]*' containers/dependencies.sh)" 'setuptools>=77'
    mv "$PIP_WHEEL_DIR" "$wheels"
}

# build NAME [ARGUMENT...]
build() {
    local name=$1
    shift
    if [ "$engine" = docker ]; then
        docker build --quiet "${arguments[@]}" "$@" --tag "$name" "$work/context"
    else
        store bud --isolation chroot --layers "${arguments[@]}" --build-arg BASE=localhost/base \
            --build-arg NODE=localhost/base --build-arg TORCH_INDEX= --build-arg PIP_NO_INDEX=1 \
            --build-arg PIP_FIND_LINKS=/wheels --volume "$wheels:/wheels:ro" "$@" --tag "$name" \
            "$work/context" > "$work/build.log" 2>&1 || { tail -40 "$work/build.log"; fail "the build failed"; }
    fi
}

rebuild_after_a_change() {
    echo "# changed" >> "$work/context/qsmprep/__init__.py"
    build qsmprep-changed --build-arg WARM_UP=no
}

unpack() {
    if [ "$engine" = docker ]; then
        docker image inspect --format '{{.Size}}' qsmprep-test > "$work/size"
        return
    fi
    root=$(store mount "$(store from qsmprep-test)")
    store inspect --type image --format '{{range .OCIv1.Config.Env}}{{println .}}{{end}}' qsmprep-test | sed '/^$/d' \
        > "$work/environment"
    du --bytes --summarize "$root" | cut -f1 > "$work/size"
}

# inside NETWORK BIDS OUT PROGRAM [ARGUMENT...], with /work kept from call to call.
inside() {
    local network=$1 bids=$2 out=$3 flags=()
    shift 3
    if [ "$engine" = docker ]; then
        [ "$network" = none ] && flags=(--network none) || flags=(--publish 127.0.0.1:18765:18765)
        docker run --rm "${flags[@]}" --read-only --tmpfs /tmp --shm-size 8m --user "$user" --volume "$bids:/bids:ro" \
            --volume "$out:/out" --volume "$work/scratch:/work" --env NUMBA_CACHE_DIR="$cache" \
            --entrypoint "$1" qsmprep-test "${@:2}"
    else
        sed "s,^NUMBA_CACHE_DIR=.*,NUMBA_CACHE_DIR=$cache," "$work/environment" > "$work/environment.now"
        bash containers/in_chroot.sh "$root" "$network" "$user" "$work/environment.now" "$bids" "$out" "$work/scratch" "$@"
    fi
}

# The loops that a run compiled, in a copy of the image's cache: there must be none.
compiled_anew() {
    inside none "$work/bids" "$work/out" sh -c 'cp -r /opt/cache/numba /work/numba && chmod -R u+w /work/numba'
    cache=/work/numba inside none "$work/bids" "$work/out2" qsmprep /bids /out participant --work-dir /work/second \
        --inversion fansi modl --participant-label 01
    inside none "$work/bids" "$work/out" sh -c 'cd /work/numba && find . -name "*.nbc" | while read -r file; do
        [ -f "/opt/cache/numba/$file" ] || echo "$file"; done' > "$work/compiled"
    [ ! -s "$work/compiled" ] || { cat "$work/compiled"; fail "these loops were not compiled in the image"; }
}

outputs() { (cd "$1" && find . -type f -printf '%P\n' | sed -E 's,logs/[0-9]{8}-[0-9]{6}_[0-9a-f]+,logs/RUN,' | sort -u); }

compare_outputs() {
    outputs "$work/out" > "$work/outputs.txt"
    diff containers/expected_outputs.txt "$work/outputs.txt" || fail "other outputs than containers/expected_outputs.txt"
}

view_answers() {
    set -m  # a group of its own, so that it can be ended
    inside host "$work/bids" "$work/out" qsmprep-tools view /out --host 0.0.0.0 --port 18765 --no-browser > "$work/view" &
    python3 - "$work/view" <<'PYTHON'
import re, sys, time, urllib.request
for _ in range(120):
    found = re.search(r"http://\S+/", open(sys.argv[1]).read())
    if found: break
    time.sleep(0.5)
page = urllib.request.urlopen(found[0], timeout=30).read().decode()
assert "sub-01" in page, page
try: urllib.request.urlopen("http://127.0.0.1:18765/", timeout=30); raise SystemExit("view answers without its key")
except urllib.error.HTTPError as error: assert error.code == 403
PYTHON
    kill -TERM -- -$!
    wait || true
    set +m
}

nobody_else_may_write() {
    local found
    found=$(inside none "$work/bids" "$work/out" find / -xdev -perm -o+w ! -type l ! -path '/work*' ! -path '/proc/*' \
        ! -path '/tmp*' ! -path /var/tmp ! -path /run/lock ! -path '/dev/*' 2> /dev/null || true)
    [ -z "$found" ] || fail "anybody may write $found"
    inside none "$work/bids" "$work/out" cat /usr/local/share/qsmprep/sbom.json > "$work/sbom.json"
    python3 -c 'import json, sys; names = {c["name"].lower() for c in json.load(open(sys.argv[1]))["components"]}
assert {"torch", "numba", "nipype", "dcm2niix"} <= names, names; print(len(names), "packages in the SBOM")' "$work/sbom.json"
    # It ends with 3 when it tells its version.
    { inside none "$work/bids" "$work/out" dcm2niix --version || true; } | grep -i "version" > /dev/null || fail "no dcm2niix"
}

install_programs
driver=vfs
mkdir -p "$work"/probe/{l,u,w,m} "$work"/{bids,empty,out,out2,scratch}
mount -t overlay overlay -o "lowerdir=$work/probe/l,upperdir=$work/probe/u,workdir=$work/probe/w" "$work/probe/m" 2> /dev/null \
    && umount "$work/probe/m" && driver=overlay
chown "$user" "$work"/{bids,out,out2,scratch} 2> /dev/null || chmod 1777 "$work"/{bids,out,out2,scratch}

printf '| step | time |\n|---|---|\n' > "$table"
step "sources" copy_sources
if [ "$engine" = buildah ]; then
    step "base by debootstrap" make_base
    step "packages fetched" collect_wheels
fi
step "image built, loops compiled" build qsmprep-test
unpack
step "image built again after a change of the code (WARM_UP=no)" rebuild_after_a_change
step "simulated head, two subjects" inside none "$work/empty" "$work/bids" qsmprep-tools simulate /out --voxel-size 5 --subjects 2 --mese
step "first run, one subject" inside none "$work/bids" "$work/out" qsmprep /bids /out participant --participant-label 01
step "second run, the other subject" inside none "$work/bids" "$work/out" qsmprep /bids /out participant --participant-label 02
step "group level" inside none "$work/bids" "$work/out" qsmprep /bids /out group
compare_outputs
step "a network's map too; nothing is compiled anew" compiled_anew
step "view answers on its port, with its key only" view_answers
nobody_else_may_write
awk '{ printf "| size of the image | %.2f GB |\n", $1 / 1e9 }' "$work/size" >> "$table"
cat "$table"
