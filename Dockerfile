# docker build --tag omnithink .        docker build --build-arg DEVICE=gpu --tag omnithink:gpu .
# What is in them and how to run them: docs/docker.md.
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS base
# bubblewrap seals the programs that the model writes, git notes the commit, a compiler is for what torch and vLLM compile
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap libseccomp2 git g++ \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 omnithink \
 && install --directory --owner omnithink /work
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# What is large and seldom changes, in a layer of its own.
FROM base AS cpu
RUN pip install --no-cache-dir torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu

# The packages bring CUDA's libraries along; the host needs NVIDIA's driver and its container toolkit alone.
FROM base AS gpu
RUN pip install --no-cache-dir torch==2.13.0 vllm==0.32.0

# hadolint ignore=DL3006
FROM ${DEVICE}
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE main.py ./
COPY omnithink_pl omnithink_pl
COPY callbacks callbacks
COPY configs configs
RUN pip install --no-cache-dir .
USER 1000
WORKDIR /work
ENTRYPOINT ["omnithink"]
CMD ["fit", "--config", "configs/curriculum.yaml"]
