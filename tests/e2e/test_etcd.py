"""nerve and synapse over etcd, from the command line alone: registered, served, withdrawn."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from tests.e2e.programs import dockstack, until
from tests.servers.etcd import EtcdServer
from tests.servers.origin import Origin
from tests.servers.ports import free_port


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def is_ready(run_dir: Path) -> bool:
    asked = [sys.executable, "-m", "dockstack", "ready", "--run-dir", str(run_dir)]
    return subprocess.run(asked, check=False, capture_output=True, timeout=120).returncode == 0


def test_over_etcd(tmp_path: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="dse-"))  # a Unix socket's path has a limit
    front = free_port()
    with EtcdServer(tmp_path) as server, Origin(tmp_path, "blue") as origin:
        url = server.url("/nerve")

        def where(role: str) -> list[str]:
            return ["--run-dir", str(scratch / role), "--state-dir", str(scratch / f"{role}-state")]

        ambassador = ["synapse", "-d", url, "-s", "web:http:/web", "-r", f"web:.haproxy.port={front}"]
        registrar = ["nerve", "-d", url, "-s", f"web:http:{origin.port}:/web", "-r", "web:.check_interval=0.1"]
        with dockstack(
            scratch / "synapse.log", *ambassador, "--bind", "127.0.0.1", "--stats", "off", *where("synapse")
        ) as synapse:
            until("readiness", lambda: is_ready(scratch / "synapse"), 30, synapse)
            with dockstack(
                scratch / "nerve.log", *registrar, *where("nerve"), "-i", "i-1", SERVICE_HOST="127.0.0.1"
            ) as nerve:
                until("an answer", lambda: answers(front), 30, nerve)
                (name,) = server.members("/nerve/web/")
                assert name.startswith("i-1_")
            assert answers(front)  # the last servers are kept where a registry has none
            assert server.members("/nerve/web/") == {}
