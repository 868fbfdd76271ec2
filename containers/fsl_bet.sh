#!/bin/sh
# FSL's brain extraction, from FSL's own channel, into /opt/fsl: run while an image is built with FSL_BET=yes.
# FSL is free for non-commercial use only (https://fsl.fmrib.ox.ac.uk/fsl/docs/#/license).
set -eu

scratch=$(mktemp -d)  # Apptainer builds with the /tmp of the machine, where others may write
channel=https://fsl.fmrib.ox.ac.uk/fsldownloads/fslconda/public/
apt-get update
apt-get install --yes --no-install-recommends bzip2 ca-certificates curl
case $(uname -m) in x86_64) platform=linux-64 ;; aarch64) platform=linux-aarch64 ;; esac
curl --fail --location "https://micro.mamba.pm/api/micromamba/$platform/latest" | tar -xj -C "$scratch" bin/micromamba
"$scratch/bin/micromamba" create --yes --root-prefix "$scratch/mamba" --prefix /opt/fsl \
    --channel "$channel" --channel conda-forge fsl-bet2
rm -rf "$scratch" /var/lib/apt/lists/*
test -x /opt/fsl/bin/bet
