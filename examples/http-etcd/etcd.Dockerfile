# Any etcd 3.4 or newer will do; this is Debian's.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends etcd-server \
    && rm -rf /var/lib/apt/lists/*
USER nobody
ENTRYPOINT ["etcd"]
