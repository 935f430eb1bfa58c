"""How long clients wait for a change: znode created → first answer through HAProxy, znode gone → last answer.

    python -m bench.convergence [ROUNDS]

A real ZooKeeper, a real synapse and its HAProxy; probes ask through HAProxy all the time, each on a new connection. Two
servers stay, a third comes and goes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from kazoo.client import KazooClient

from bench.report import machine, percentile, table, write
from dockstack.synapse.haproxy.runtime import connect
from tests.servers.ports import free_port
from tests.servers.zookeeper import ZooKeeperServer

PROBES = 2
QUIET = 0.1
LIMIT = 10.0
RUBY = "620 ms / 520 ms p50, one reload for each addition (measured apart, on a machine of the same size)"


class Answers:
    """When each server answered first and last since it was last forgotten (seconds of the monotonic clock)."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.failed = 0
        self.requests = 0

    def saw(self, name: str, when: float) -> None:
        self.requests += 1
        self.first.setdefault(name, when)
        self.last[name] = when


async def origin(name: str, port: int) -> asyncio.Server:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\nConnection: close\r\n\r\n{name}".encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port, backlog=256)


async def probe(port: int, answers: Answers) -> None:
    while True:
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                reply = await reader.read()
                writer.close()
        except (OSError, TimeoutError):
            answers.failed += 1
            await asyncio.sleep(0.01)
            continue
        head, _, body = reply.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200"):
            answers.saw(body.decode(), time.monotonic())
        else:
            answers.failed += 1
        await asyncio.sleep(0.0005)


def instance(name: str, port: int) -> bytes:
    return json.dumps({"host": "127.0.0.1", "port": port, "name": name}, separators=(",", ":")).encode()


async def one_round(client: KazooClient, answers: Answers, port: int) -> tuple[float, float]:
    """Milliseconds from the acknowledged create to the first answer, and from the acknowledged delete to the last."""
    answers.first.pop("three", None)
    path = await asyncio.to_thread(client.create, "/bench/web/three_", instance("three", port), None, True, True)
    created = time.monotonic()
    while "three" not in answers.first:
        if time.monotonic() - created > LIMIT:
            raise SystemExit(f"the third server was not served within {LIMIT:.0f} s")
        await asyncio.sleep(0.001)
    up = answers.first["three"] - created
    await asyncio.sleep(0.05)
    await asyncio.to_thread(client.delete, path)
    gone = time.monotonic()
    while time.monotonic() - max(gone, answers.last["three"]) < QUIET:
        if time.monotonic() - gone > LIMIT:
            raise SystemExit(f"the third server was still served after {LIMIT:.0f} s")
        await asyncio.sleep(0.005)
    down = answers.last["three"] - gone
    return max(up, 0.0) * 1000, max(down, 0.0) * 1000


async def worker(socket: Path) -> int:
    """HAProxy's process id: another one means that it was reloaded."""
    haproxy = await connect(socket, 5)
    try:
        return (await haproxy.identity(5)).pid
    finally:
        haproxy.close()


async def run(rounds: int, scratch: Path) -> None:
    with ZooKeeperServer(scratch / "zookeeper") as zookeeper:
        client = KazooClient(hosts=zookeeper.hosts, timeout=20)
        await asyncio.to_thread(client.start, 20)
        names = ("one", "two", "three")
        ports = {name: free_port() for name in names}
        servers = [await origin(name, port) for name, port in ports.items()]
        for name in names[:2]:
            client.create(
                f"/bench/web/{name}_", instance(name, ports[name]), sequence=True, ephemeral=True, makepath=True
            )
        front, run_dir = free_port(), scratch / "run"
        log = (scratch / "synapse.log").open("wb")
        synapse = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dockstack", "synapse",
            "-d", f"zk://127.0.0.1:{zookeeper.port}/bench", "-s", "web:tcp:/web", "-r", f"web:.haproxy.port={front}",
            "--bind", "127.0.0.1", "--stats", "off", "--run-dir", str(run_dir), "--state-dir", str(scratch / "state"),
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        answers, ups, downs = Answers(), [], []
        try:
            async with asyncio.TaskGroup() as group:
                probes = [group.create_task(probe(front, answers)) for _ in range(PROBES)]
                while len(answers.last) < 2:
                    if synapse.returncode is not None:
                        raise SystemExit((scratch / "synapse.log").read_text())
                    await asyncio.sleep(0.05)
                before, answers.failed = await worker(run_dir / "haproxy.sock"), 0
                for done in range(rounds):
                    up, down = await one_round(client, answers, ports["three"])
                    ups.append(up)
                    downs.append(down)
                    if (done + 1) % 25 == 0:
                        print(f"  {done + 1} of {rounds} rounds, {answers.requests:,} probes", file=sys.stderr)
                reloads = int(await worker(run_dir / "haproxy.sock") != before)
                for task in probes:
                    task.cancel()
        finally:
            if synapse.returncode is None:
                synapse.terminate()
                await synapse.wait()
            log.close()
            client.stop()
            client.close()
            for server in servers:
                server.close()
    shares = (0.5, 0.95, 0.99, 1.0)
    rows = [
        (what, *(f"{percentile(values, share):.2f}" for share in shares))
        for what, values in (("znode created → first answer", ups), ("znode gone → last answer", downs))
    ]
    print(table(("milliseconds", "p50", "p95", "p99", "max"), rows))
    told = f"{answers.requests:,} probes, {answers.failed} failed"
    print(f"{rounds} rounds, reloads: {'at least 1' if reloads else 0}, {told}")
    print(f"for comparison, Ruby synapse: {RUBY}")
    figures = {
        "rounds": rounds, "reloads": reloads, "probes": answers.requests, "failed": answers.failed,
        "created_to_served_ms": ups, "gone_to_last_ms": downs,
        "machine": machine(os.environ.get("DOCKSTACK_BENCH_HAPROXY", "haproxy")),
    }  # fmt: skip
    print(f"written to {write('convergence', figures)}")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="dockstack-bench-") as scratch:
        asyncio.run(run(rounds, Path(scratch)))


if __name__ == "__main__":
    main()
