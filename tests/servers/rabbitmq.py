"""A real RabbitMQ broker on free loopback ports, with a name, an epmd and a directory of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.missing import missing
from tests.servers.ports import accepts, free_ports
from tests.servers.program import Program

PACKAGES = "rabbitmq-server"
# Debian's command on PATH changes the user; the one behind it runs as whoever starts it.
_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_READY = "Server startup complete"


class RabbitmqServer:
    """Stop, kill and restart keep the port and the data. All calls block: see `Program`. `guest` comes in."""

    def __init__(self, directory: Path) -> None:
        epmd = shutil.which("epmd")
        if epmd is None or not _SCRIPT.exists():
            missing("RabbitMQ", PACKAGES)
        self.port, distribution, names = free_ports(3)
        self._names = names
        (directory / "plugins").write_text("[].\n")
        (directory / "rabbitmq.conf").write_text(
            "vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 1MB\n"
        )
        # The node announces itself there: one epmd for each broker, which ends with it.
        self._epmd = Program((epmd, "-port", str(names), "-address", "127.0.0.1"), directory / "epmd.log")
        self.program = Program(
            (str(_SCRIPT),),
            directory / "rabbitmq.log",
            {
                "HOME": str(directory),  # of the Erlang cookie
                # Else the script would stay, as the parent of the broker, and be what signals reach.
                "RABBITMQ_ALLOW_INPUT": "true",
                "RABBITMQ_SERVER_START_ARGS": "-noinput",
                "RABBITMQ_NODENAME": f"dockstack-{self.port}@localhost",
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
                "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_DIST_PORT": str(distribution),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
                "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
                "RABBITMQ_LOG_BASE": str(directory),
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_CONF_ENV_FILE": "/dev/null",
                "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
                "RABBITMQ_PID_FILE": str(directory / "pid"),
                "ERL_CRASH_DUMP": str(directory / "erl_crash.dump"),
                "ERL_EPMD_PORT": str(names),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
            },
        )

    @property
    def running(self) -> bool:
        return self.program.running

    @property
    def log(self) -> str:
        return self.program.output()

    def start(self) -> None:
        """Returns when the broker says that it is ready: a connection to ask for that would be in its log."""
        starts = self.log.count(_READY)
        if not self._epmd.running:
            self._epmd.start(lambda: accepts(self._names))
        try:
            self.program.start(lambda: self.log.count(_READY) > starts, limit=90)
        except BaseException:
            self._epmd.kill()
            raise

    def stop(self) -> None:
        self.program.stop()
        self._epmd.stop()

    def kill(self) -> None:
        """SIGKILL."""
        self.program.kill()
        self._epmd.kill()

    def pause(self) -> None:
        """It accepts and never answers, until `resume`."""
        self.program.pause()

    def resume(self) -> None:
        self.program.resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
