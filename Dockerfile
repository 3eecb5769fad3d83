# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target operator      -t stackstore-operator .
#   docker build --target stack-example -t stackstore-example .
ARG BASE=python:3.13-slim

FROM ${BASE} AS wheel
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements/build.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md ./
COPY runtime runtime
COPY operator operator
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

# Each image gets its own environment, so that the stack's does not hold kopf or a Kubernetes client.
FROM ${BASE} AS operator-env
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/operator.txt /tmp/
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/stackstore \
    && /opt/stackstore/bin/pip install --require-hashes -r /tmp/operator.txt \
    && /opt/stackstore/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/stackstore/bin/pip uninstall --yes pip

FROM ${BASE} AS stack-example-env
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/example.txt /tmp/
COPY --from=wheel /wheels /wheels
RUN python -m venv /opt/stackstore \
    && /opt/stackstore/bin/pip install --require-hashes -r /tmp/example.txt \
    && /opt/stackstore/bin/pip install --no-deps --no-index /wheels/*.whl \
    && /opt/stackstore/bin/pip uninstall --yes pip

FROM ${BASE} AS operator
LABEL org.opencontainers.image.title="stackstore-operator" \
      org.opencontainers.image.description="Renders named storage backends into one Secret and one run config per LLM stack"
COPY --from=operator-env /opt/stackstore /opt/stackstore
ENV PATH=/opt/stackstore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, not a name: runAsNonRoot can only check numbers.
USER 65532:65532
ENTRYPOINT ["stackstore-operator"]
CMD ["run"]

FROM ${BASE} AS stack-example
LABEL org.opencontainers.image.title="stackstore-example" \
      org.opencontainers.image.description="The quickstart's stack server: an echo model on Stackstore's runtime"
COPY --from=stack-example-env /opt/stackstore /opt/stackstore
COPY examples/__init__.py /app/examples/
COPY examples/stack /app/examples/stack
WORKDIR /app
ENV PATH=/opt/stackstore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8321
ENTRYPOINT ["python", "-m", "examples.stack"]
CMD ["--root", "/etc/stack", "--host", "0.0.0.0", "--port", "8321"]
