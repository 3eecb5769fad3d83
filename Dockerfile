# syntax=docker/dockerfile:1
# Two images from one file; the last is what `docker build .` makes:
#   docker build --target operator      -t stackstore-operator .
#   docker build --target stack-example -t stackstore-example .
# An index of your own: mount pip's configuration and the authority while building, e.g. by
# `buildah build --volume FILE:/etc/pip.conf:ro`. Neither gets into an image.
#
# BASE holds a Python 3.11 or newer and nothing else; BUILD_BASE the same Python at the same path,
# with venv and pip.
ARG BASE=python:3.13-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# Each image's environment is made without pip of its own: this one fills it.
RUN python3 -m venv /build

FROM tools AS wheel
WORKDIR /src
COPY requirements/build.txt requirements/
RUN /build/bin/pip install --quiet --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md ./
COPY runtime runtime
COPY operator operator
RUN /build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels .

# Each image gets its own environment, so that the stack's does not hold kopf or a Kubernetes client.
# What is locked comes first: a change of our code does not install it anew.
FROM tools AS operator-env
COPY requirements/operator.txt /tmp/
RUN python3 -m venv --without-pip /opt/stackstore \
    && /build/bin/pip --python /opt/stackstore/bin/python install --quiet --require-hashes -r /tmp/operator.txt
COPY --from=wheel /wheels /wheels
RUN /build/bin/pip --python /opt/stackstore/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM tools AS stack-example-env
COPY requirements/example.txt /tmp/
RUN python3 -m venv --without-pip /opt/stackstore \
    && /build/bin/pip --python /opt/stackstore/bin/python install --quiet --require-hashes -r /tmp/example.txt
COPY --from=wheel /wheels /wheels
RUN /build/bin/pip --python /opt/stackstore/bin/python install --quiet --no-deps --no-index /wheels/*.whl

FROM ${BASE} AS stack-example
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stackstore-example" \
      org.opencontainers.image.description="The quickstart's stack server: an echo model on Stackstore's runtime" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=stack-example-env /opt/stackstore /opt/stackstore
COPY examples/__init__.py /app/examples/
COPY examples/stack/*.py /app/examples/stack/
WORKDIR /app
ENV PATH=/opt/stackstore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8321
ENTRYPOINT ["python", "-m", "examples.stack"]
CMD ["--root", "/etc/stack", "--host", "0.0.0.0", "--port", "8321"]

FROM ${BASE} AS operator
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stackstore-operator" \
      org.opencontainers.image.description="Renders named storage backends into one Secret and one run config per LLM stack" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=operator-env /opt/stackstore /opt/stackstore
ENV PATH=/opt/stackstore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, not a name: runAsNonRoot can only check numbers.
USER 65532:65532
ENTRYPOINT ["stackstore-operator"]
CMD ["run"]
