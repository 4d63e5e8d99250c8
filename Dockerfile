# docker build -t ghostllm .
# docker run -p 8080:8080 -v ./ghostllm.toml:/etc/ghostllm/ghostllm.toml:ro -e ALICE_KEY ghostllm
#
# The container listens on all of its addresses, so it starts only with keys configured, or with --insecure.
# BASE: any Linux with Python >= 3.11 and its venv module. EXTRAS: of the package; `local`, for GGUF files, needs libgomp
# and libstdc++ in the base.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG EXTRAS=yaml
COPY pyproject.toml README.md LICENSE /src/
COPY ghostllm /src/ghostllm
RUN python3 -m venv /opt/ghostllm \
 && /opt/ghostllm/bin/pip install --no-cache-dir "/src[${EXTRAS}]" \
 && /opt/ghostllm/bin/pip uninstall --yes pip

FROM ${BASE}
COPY --from=build /opt/ghostllm /opt/ghostllm
# GHOSTLLM_URL is where the health check, and ghostctl inside the container, find the gateway.
ENV PATH=/opt/ghostllm/bin:$PATH \
    GHOSTLLM_SERVER_LISTEN=0.0.0.0:8080 \
    GHOSTLLM_URL=http://127.0.0.1:8080
EXPOSE 8080
# By number: Kubernetes can tell that it is not root, and the base needs no such user.
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["python3", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(os.environ['GHOSTLLM_URL'] + '/health', timeout=4)"]
ENTRYPOINT ["ghostllm", "serve"]
