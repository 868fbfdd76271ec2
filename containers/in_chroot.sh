#!/bin/bash
# Runs a program in the files of an image as a container engine would, without one: in_chroot.sh ROOT NETWORK USER
# ENVIRONMENT BIDS OUT WORK PROGRAM [ARGUMENT...], as root. NETWORK is none or host, ENVIRONMENT a file of NAME=VALUE.
# The root file system and BIDS can only be read, /dev/shm holds 8 MB, the user has no name and no home.
set -euo pipefail

if [ "${ISOLATED:-}" != yes ]; then
    flags=(--mount --pid --fork --kill-child)
    [ "$2" = host ] || flags+=(--net)
    ISOLATED=yes exec unshare "${flags[@]}" bash "$0" "$@"
fi
root=$1 network=$2 user=$3 environment=$4 bids=$5 out=$6 work=$7
shift 7

[ "$network" = host ] || ip link set lo up 2> /dev/null || true
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount -t tmpfs -o mode=755 dev "$root/dev"
for device in null zero random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o size=8m,mode=1777 shm "$root/dev/shm"
mkdir -p "$root/bids" "$root/out" "$root/work"
mount --bind "$bids" "$root/bids"
mount -o remount,bind,ro "$root/bids"
mount --bind "$out" "$root/out"
mount --bind "$work" "$root/work"
mount -o remount,bind,ro "$root"
mapfile -t variables < "$environment"
exec chroot --userspec="$user" --groups="" "$root" env -i "${variables[@]}" sh -c 'cd /work && exec "$@"' sh "$@"
