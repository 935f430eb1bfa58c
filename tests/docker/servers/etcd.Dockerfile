# The etcd of the walk-throughs, in the place of the well-known image that the examples name.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends etcd-server
USER nobody
CMD ["etcd", "--data-dir=/tmp/etcd", "--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://127.0.0.1:2379"]
