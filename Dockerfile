# The viewer's script and the wheel are built in stages of their own; the last holds only what runs.
FROM node:20-slim AS viewer
WORKDIR /source/viewer
COPY viewer ./
COPY qsmprep/data/viewer /source/qsmprep/data/viewer
RUN npm ci --ignore-scripts && npm run build

FROM python:3.11-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY qsmprep qsmprep
COPY interfaces interfaces
COPY workflows workflows
COPY --from=viewer /source/qsmprep/data/viewer qsmprep/data/viewer
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="qsmprep" \
      org.opencontainers.image.description="Quantitative susceptibility mapping of BIDS datasets" \
      org.opencontainers.image.licenses="Apache-2.0"
# An index with CPU builds of PyTorch makes a far smaller image, without GPU support: --build-arg PIP_EXTRA_INDEX_URL=...
ARG PIP_EXTRA_INDEX_URL=""
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt /tmp/wheels/*.whl \
    && rm -rf /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home --uid 1000 qsmprep \
    && mkdir -p /work /opt/numba && chown qsmprep /work && chmod 1777 /opt/numba
# Compiled loops and matplotlib's font list are cached outside HOME, which may be missing or read-only in a container.
ENV NUMBA_CACHE_DIR=/opt/numba MPLCONFIGDIR=/opt/numba/matplotlib NIPYPE_NO_ET=1 QSMPREP_CONTAINER=qsmprep:0.1.0
RUN qsmprep-tools warm-up && chmod -R a+rwX /opt/numba
USER qsmprep
WORKDIR /work
ENTRYPOINT ["qsmprep"]
