-- Without any right: HAProxy greets the server with it.
CREATE USER haproxy_check@'%';
CREATE USER app@'%';
