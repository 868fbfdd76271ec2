# docs/containers.md tells how to build and use this image; singularity.def is the same for Apptainer.
ARG BASE=python:3.11-slim-bookworm
ARG NODE=node:20-slim

FROM ${NODE} AS viewer
WORKDIR /source/viewer
COPY viewer ./
COPY qsmprep/data/viewer /source/qsmprep/data/viewer
RUN test -f /source/qsmprep/data/viewer/niivue.js || { npm ci --ignore-scripts && npm run build; }

FROM ${BASE}
# Where Python's packages come from, for places with a mirror of their own.
ARG PIP_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX
# The CPU builds of PyTorch. Empty: PyPI's, which bring CUDA, for a GPU (`docker run --gpus all`), and are far larger.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml constraints.txt containers/dependencies.sh ./
RUN sh dependencies.sh

# FSL's `bet` by --build-arg FSL_BET=yes: FSL's licence forbids commercial use, of this image too then.
ARG FSL_BET=no
COPY containers/fsl_bet.sh ./
RUN test "$FSL_BET" = no || sh fsl_bet.sh

ARG VERSION=0.1.0
# Compiled code and matplotlib's font list lie outside HOME, which may be missing or read-only in a container. The code is
# for any processor of the architecture: numba would refuse what was compiled for another model than it runs on.
ENV PATH=/opt/qsmprep/bin:/opt/fsl/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONNOUSERSITE=1 \
    NUMBA_CACHE_DIR=/opt/cache/numba \
    NUMBA_CPU_NAME=generic \
    MPLCONFIGDIR=/opt/cache/matplotlib \
    NIPYPE_NO_ET=1 \
    FSLDIR=/opt/fsl FSLOUTPUTTYPE=NIFTI_GZ \
    QSMPREP_CONTAINER=qsmprep:${VERSION}
ARG WARM_UP=yes
COPY README.md LICENSE containers/program.sh containers/bytecode.py ./
COPY qsmprep qsmprep
COPY interfaces interfaces
COPY workflows workflows
COPY --from=viewer /source/qsmprep/data/viewer qsmprep/data/viewer
RUN sh program.sh && rm -rf /source/*

ARG REVISION=unknown
LABEL org.opencontainers.image.title="qsmprep" \
      org.opencontainers.image.description="Quantitative susceptibility mapping of BIDS datasets" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Without -u, a user that owns nothing; with -u, any user may work in /work.
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["qsmprep"]
