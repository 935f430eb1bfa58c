# The ZooKeeper of the walk-throughs, in the place of the well-known image that the examples name.
FROM debian:trixie-slim
# Debian's java wants the directory of its manual, which a slim image lacks.
RUN mkdir -p /usr/share/man/man1 \
    && apt-get update \
    && apt-get install -y --no-install-recommends default-jre-headless libzookeeper-java libslf4j-java
COPY zoo.cfg /etc/zoo.cfg
USER nobody
CMD ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Dzookeeper.jmx.log4j.disable=true", "-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar", "org.apache.zookeeper.server.quorum.QuorumPeerMain", "/etc/zoo.cfg"]
