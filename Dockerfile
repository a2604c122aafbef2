# Every command of posterity, without its tests. `compose.yaml` puts the parts together.
#   docker build -t posterity .
#   docker build -t posterity:cuda --build-arg TORCH=https://download.pytorch.org/whl/cu130 .
#   docker run --rm -v posterity:/data posterity run tiny
# For CUDA the base stays the same: torch's wheels bring the libraries, `--gpus all` the driver.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS built
ARG TORCH=https://download.pytorch.org/whl/cpu
ARG EXTRAS=lake,models,referees
RUN python -m venv /opt/posterity
ENV PATH=/opt/posterity/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
RUN pip install -c constraints.txt --index-url ${TORCH} torch
COPY pyproject.toml README.md LICENSE ./
# What it depends on, in a layer that a change of the code leaves alone.
RUN pip install -c constraints.txt ".[${EXTRAS}]"
COPY planners planners
COPY curation curation
COPY warehouse warehouse
COPY flows flows
RUN pip install --no-deps --force-reinstall .

FROM ${BASE}
# As process 1, tini hands signals on and collects what is left of processes that ended.
RUN apt-get update -q && apt-get install -y -q --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home posterity && install -d -o posterity /data
COPY --from=built /opt/posterity /opt/posterity
ENV PATH=/opt/posterity/bin:$PATH PYTHONUNBUFFERED=1 \
    POSTERITY_WAREHOUSE=/data/posterity.duckdb POSTERITY_CACHE=/data/.cache/posterity \
    HF_HOME=/data/.cache/huggingface DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
USER posterity
WORKDIR /data
VOLUME /data
ENTRYPOINT ["tini", "--", "posterity"]
CMD ["--help"]
