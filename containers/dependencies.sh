#!/bin/sh
# What the program needs, into /opt/qsmprep at the tested versions, and a list of it all: run while an image is built, in
# the folder of pyproject.toml and constraints.txt. Neither changes with the code, so that this layer is kept.
# TORCH_INDEX: where PyTorch comes from; its CPU builds unless told otherwise, PyPI's (CUDA) if empty.
set -eu

# Compiled loops share their threads by OpenMP: numba's own thread pool must not be entered from two threads.
if ! ldconfig -p | grep -q libgomp.so.1; then
    apt-get update
    apt-get install --yes --no-install-recommends libgomp1
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
fi

export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
python3 -m venv /opt/qsmprep
pip=/opt/qsmprep/bin/pip
"$pip" install --no-deps --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
python3 -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > /tmp/requirements.txt
"$pip" install --constraint constraints.txt --requirement /tmp/requirements.txt bids-validator-deno

# What packages bring for their own tests and for building on them is a fifth of all; numpy.testing needs numpy's.
packages=$(/opt/qsmprep/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
find "$packages" -type d -name tests ! -path '*/numpy/*' -prune -exec rm -rf {} +
rm -rf "$packages"/torch/test "$packages"/torch/include "$packages"/torch/bin/*[tT]est* "$packages"/torch/bin/protoc*

# The bill of materials (CycloneDX), by a program that does not stay in the image.
share=/usr/local/share/qsmprep
mkdir -p "$share"
python3 -m venv /tmp/sbom
/tmp/sbom/bin/pip install cyclonedx-bom==7.5.0
/tmp/sbom/bin/cyclonedx-py environment --output-reproducible --output-file "$share/sbom.json" /opt/qsmprep/bin/python
dpkg-query --show > "$share/debian-packages.txt"
rm -rf /tmp/sbom /tmp/requirements.txt
