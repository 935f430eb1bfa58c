# The RabbitMQ of the walk-throughs, in the place of the well-known image that the examples name.
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends rabbitmq-server \
    && printf 'loopback_users = none\nlisteners.tcp.default = 5672\nlog.console = true\nlog.file = false\n' >/etc/rabbitmq/rabbitmq.conf
USER rabbitmq
ENV HOME=/var/lib/rabbitmq \
    RABBITMQ_NODENAME=rabbit@localhost \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 1:1 +sbwt none"
CMD ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
