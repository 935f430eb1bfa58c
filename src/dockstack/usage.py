"""What `--help` says below the options: the types, an example, and what the environment says."""

from __future__ import annotations

NERVE = """\b
TYPE: docker, exec, grpc, http, mysql, noop, postgresql, rabbitmq, redis, tcp,
or a template of your own.

\b
Example:
  SERVICE_HOST=192.0.2.10 dockstack nerve -d zk://zk1:2181/nerve \\
      -s mysql:mysql:3306:/test -r 'mysql:.check_interval=5'

\b
Environment: SERVICE_HOST, INSTANCE_ID; NERVE_CONFIG (as -c),
NERVE_INSTANCE_ID (as -i), NERVE_CHECK_CONFIG (as -k), DOCKER_HOST,
DOCKSTACK_UNKNOWN_KEYS, DEBUG (not empty: a longer log).
"""

SYNAPSE = """\b
TYPE: http, mysql, postgresql, rabbitmq, redis, tcp, or a template of your
own.

\b
Example:
  dockstack synapse -d zk://zk1:2181/nerve -s mysql:mysql:/test \\
      --bind 127.0.0.1 -r 'mysql:.haproxy.port=13306'

\b
Environment: SYNAPSE_CONFIG (as -c), DOCKER_HOST, DOCKSTACK_UNKNOWN_KEYS,
DEBUG (not empty: a longer log).
"""
