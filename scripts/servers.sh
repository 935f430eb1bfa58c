#!/bin/sh
# The real servers that the tests start for themselves: installs by apt what is not here. With CI=true a server that
# cannot be installed is an error; else its tests are skipped by name.
set -eu
cd "$(dirname "$0")/.."
# An ordinary user's PATH has no sbin, where Debian puts servers.
PATH=$PATH:/usr/sbin:/usr/local/sbin

# A Docker engine that answers will do. Only root can start one; nobody else gets Docker installed by a test command.
docker_engine() {
    docker version >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || return 1
}

needed() {
    command -v java >/dev/null || echo default-jre-headless
    [ -n "${ZOOKEEPER_CLASSPATH:-}" ] || [ -e /usr/share/java/zookeeper.jar ] || echo libzookeeper-java
    command -v haproxy >/dev/null || echo haproxy
    # The -core packages hold the programs without the service.
    { command -v mariadbd && command -v mariadb-install-db; } >/dev/null || echo mariadb-server-core
    command -v mariadb >/dev/null || echo mariadb-client-core
    command -v etcd >/dev/null || echo etcd-server
    command -v redis-server >/dev/null || echo redis-server
    command -v rabbitmq-server >/dev/null || echo rabbitmq-server
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || echo postgresql
    docker_engine || {
        command -v dockerd >/dev/null || echo docker.io
        command -v iptables >/dev/null || echo iptables
        command -v ip >/dev/null || echo iproute2
        # The image that ours begins with is made from packages where no image registry is reached.
        command -v debootstrap >/dev/null || echo debootstrap
    }
}

packages=$(needed | tr '\n' ' ')
[ -n "$packages" ] || exit 0

echo "To install by apt: $packages(servers that the tests run against; no service is started)"
status=0
# shellcheck disable=SC2086  # a list of words
sh scripts/apt-install.sh $packages || status=$?
packages=$(needed | tr '\n' ' ')
[ -n "$packages" ] || exit 0

cat >&2 <<TEXT
The tests want these programs. Missing here, by Debian's package names: $packages
    Java 11 or newer (java on PATH)
    ZooKeeper 3.6 or newer: ZOOKEEPER_CLASSPATH='/where/it/is/lib/*'
    HAProxy 2.6 or newer (haproxy on PATH)
    MariaDB 10.6 or newer: mariadbd, mariadb-install-db and the client mariadb on PATH
    etcd 3.4 or newer, redis-server 6 or newer, rabbitmq-server 3.8 or newer, PostgreSQL 13 or newer (Debian's paths)
    A Docker engine 20.10 or newer: one that answers, or as root docker.io with iptables, iproute2 and debootstrap
TEXT
if [ "${CI:-}" = true ]; then
    echo "ERROR: CI=true, and a missing server is a failure there (apt-install.sh ended with status $status)" >&2
    exit 1
fi
echo "Going on: the tests that need them are skipped by name." >&2
