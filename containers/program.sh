#!/bin/sh
# The program itself, from the sources in the working folder, with its loops compiled: run while an image is built.
# VERSION: what the image says it is; it must be the program's own. WARM_UP=no leaves the loops to the first run.
set -eu

export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
/opt/qsmprep/bin/pip install --no-deps .
if [ "$(qsmprep --version)" != "qsmprep $VERSION" ]; then
    echo "This is $(qsmprep --version), but the image would say $VERSION: give VERSION as in qsmprep/__init__.py." >&2
    exit 1
fi

# Compiled code is trusted as the program is: only root may write it, everybody may read it.
mkdir -p "$NUMBA_CACHE_DIR" "$MPLCONFIGDIR"
[ "${WARM_UP:-yes}" = no ] || qsmprep-tools warm-up
/opt/qsmprep/bin/python bytecode.py
chmod -R u=rwX,go=rX "$NUMBA_CACHE_DIR" "$MPLCONFIGDIR"

mkdir -p /work
chmod 1777 /work
