"""A program that a test runs: started with its output in a file, ended by its pid, started again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

from tests.waiting import wait_until


class Program:
    """One child process at a time. All calls block: in a coroutine use `await asyncio.to_thread(program.start)`."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = tuple(command)
        self.log = log
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the running process; AssertionError when there is none."""
        assert self._process is not None, f"not running: {self.command[0]}"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def output(self) -> str:
        """All that it wrote to stdout and stderr, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self, ready: Callable[[], bool], limit: float = 30.0) -> None:
        """Starts it and returns when `ready` holds; raises with the end of its output when it ends or takes longer."""
        assert not self.running, f"already running: {self.command[0]}"
        with self.log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=None if self.environment is None else {**os.environ, **self.environment},
                # Ctrl-C is pytest's: the fixtures end the servers, after the tests that use them.
                start_new_session=True,
            )
        try:
            wait_until(lambda: process.poll() is not None or ready(), f"{self.command[0]} ready", limit)
            if process.poll() is not None:
                raise RuntimeError(f"{self.command[0]} ended with status {process.returncode}")
        except BaseException as error:
            self.kill()
            error.add_note(f"command: {' '.join(self.command)}\noutput:\n{self.output()[-4000:]}")
            raise

    def signal(self, number: Signals) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """Returns when it is stopped: the kernel goes on to accept its connections, and nothing is answered.

        The threads of a process stop one by one after SIGSTOP (proc(5), the state of each in task/*/stat), and one
        that still runs may answer.
        """
        os.kill(self.pid, SIGSTOP)
        tasks = Path(f"/proc/{self.pid}/task")

        def stopped() -> bool:
            states = {task.joinpath("stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()}
            return states == {"T"}

        wait_until(stopped, f"{self.command[0]} stopped", 10.0, 0.001)

    def resume(self) -> None:
        """It goes on where it stopped."""
        os.kill(self.pid, SIGCONT)

    def wait(self, limit: float) -> int:
        """Its exit status; raises subprocess.TimeoutExpired after `limit` seconds."""
        assert self._process is not None, f"never started: {self.command[0]}"
        return self._process.wait(limit)

    def stop(self, limit: float = 20.0) -> None:
        """SIGTERM, and SIGKILL after `limit` seconds; fine when it is not running."""
        self._end(SIGTERM, limit)

    def kill(self) -> None:
        """SIGKILL; fine when it is not running."""
        self._end(SIGKILL, 20.0)

    def _end(self, number: Signals, limit: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(number)
            # A stopped process acts on SIGTERM only when it goes on.
            process.send_signal(SIGCONT)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20.0)
