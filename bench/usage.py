"""What a process uses, from /proc."""

from __future__ import annotations

from pathlib import Path


def cpu(pid: int) -> float:
    """Seconds of a core that its present threads have used so far, in user and kernel.

    From the scheduler, to the nanosecond: `/proc/PID/stat` counts in hundredths of a second.
    """
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def rss(pid: int) -> float:
    """Resident megabytes (2**20 bytes)."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """The most resident megabytes that it ever had."""
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise ValueError(f"process {pid} has no {field}")
