#!/bin/sh
# What the program needs, into /opt/qsmprep at the tested versions, and a list of it all: run while an image is built, in
# the folder of pyproject.toml and constraints.txt. Neither changes with the code, so that this layer is kept.
# TORCH_INDEX: where PyTorch comes from; its CPU builds unless told otherwise, PyPI's (CUDA) if empty.
set -eu

# Compiled loops share their threads by OpenMP: numba's own thread pool must not be entered from two threads. strip is
# needed here alone.
if ! ldconfig -p | grep -q libgomp.so.1 || ! command -v strip > /dev/null; then
    apt-get update
    apt-get install --yes --no-install-recommends libgomp1 binutils
fi

scratch=$(mktemp -d)  # Apptainer builds with the /tmp of the machine, where others may write
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
python3 -m venv /opt/qsmprep
pip=/opt/qsmprep/bin/pip
# --no-compile: most modules are never imported, and the bytecode of all is 0.2 GB. That of the large packages is made
# below, so that it stays in this layer, the rest by bytecode.py.
"$pip" install --no-compile --no-deps --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
python3 -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > "$scratch/requirements.txt"
"$pip" install --no-compile --constraint constraints.txt --requirement "$scratch/requirements.txt" bids-validator-deno

# What packages bring for their own tests, for building on them and for debuggers is a quarter of all; numpy.testing needs
# numpy's tests.
packages=$(/opt/qsmprep/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
find "$packages" -type d -name tests ! -path '*/numpy/*' -prune -exec rm -rf {} +
rm -rf "$packages"/torch/test "$packages"/torch/include "$packages"/torch/bin/*[tT]est* "$packages"/torch/bin/protoc*
rm -f "$packages"/bids_validator_deno/*.js.map
find "$packages" -type f '(' -name '*.[chf]' -o -name '*.cpp' -o -name '*.hpp' -o -name '*.pyx' ')' -delete
"$pip" uninstall --yes setuptools
find "$packages/pip" -type d -name __pycache__ -prune -exec rm -rf {} +
# strip spoils libraries whose headers patchelf had moved: their segments no longer lie where the loader asks for them.
# These stay as they are.
loadable() {
    readelf --wide --segments "$1" | while read -r kind offset address rest; do
        [ "$kind" != LOAD ] || [ $(((offset - address) % ${rest##* })) = 0 ] || exit 1
    done
}
find "$packages" -name '*.so*' -type f -size +500k | while read -r library; do
    if strip --strip-unneeded -o "$scratch/stripped" "$library" && loadable "$scratch/stripped"; then
        cat "$scratch/stripped" > "$library"
    fi
done
apt-get purge --yes --auto-remove binutils
rm -rf /var/lib/apt/lists/* /var/cache/apt/*
/opt/qsmprep/bin/python -c 'import bids, dcm2niix, h5py, jinja2, matplotlib.pyplot, networkx, nibabel, numba, \
nipype.pipeline.engine, nipype.interfaces.utility, pybtex.database, pydicom, rich.progress, scipy.interpolate, \
scipy.ndimage, scipy.optimize, scipy.sparse.linalg, scipy.stats, SimpleITK, torch'

# The bill of materials (CycloneDX), by a program that does not stay in the image.
share=/usr/local/share/qsmprep
mkdir -p "$share"
python3 -m venv "$scratch/sbom"
"$scratch/sbom/bin/pip" install cyclonedx-bom==7.5.0
"$scratch/sbom/bin/cyclonedx-py" environment --output-reproducible --output-file "$share/sbom.json" /opt/qsmprep/bin/python
dpkg-query --show > "$share/debian-packages.txt"
rm -rf "$scratch"
