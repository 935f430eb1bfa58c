# The MariaDB of the walk-throughs, in the place of the well-known image that the examples name.
FROM debian:trixie-slim
# The data directory is made here, so that a container answers within a second.
RUN apt-get update \
    && apt-get install -y --no-install-recommends mariadb-client-core mariadb-server-core \
    && install -d -o nobody /data \
    && mariadb-install-db --no-defaults --datadir=/data --user=nobody --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve \
    && printf '%s;\n' "FLUSH PRIVILEGES" "CREATE USER haproxy_check@'%'" "CREATE USER app@'%'" | mariadbd --no-defaults --datadir=/data --user=nobody --bootstrap
USER nobody
CMD ["mariadbd", "--no-defaults", "--datadir=/data", "--socket=/tmp/mariadb.sock", "--pid-file=/tmp/mariadb.pid", "--bind-address=*", "--skip-name-resolve", "--skip-log-bin", "--performance-schema=off", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"]
