"""The page about watchers and outputs of one's own: its example is installed and runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installing import install
from tests.servers.program import Program
from tests.waiting import wait_until

PAGE = Path(__file__).parent.parent / "docs" / "plugins-synapse.md"
SOURCES = Path(__file__).parent.parent / "src"


def blocks() -> dict[str, str]:
    """The page's files by name: the first line of each names it."""
    found = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = blocks()
    points = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]
    assert points.keys() == {"dockstack.watchers", "dockstack.outputs"}
    groups = {group.removeprefix("dockstack."): each for group, each in points.items()}
    install(tmp_path, monkeypatch, "acme_dockstack", files["acme_dockstack.py"], groups)
    (tmp_path / "synapse.yaml").write_text(files["synapse.yaml"])
    (tmp_path / "web.list").write_text("10.0.0.1:80\n10.0.0.2:80\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def synapse(directory: Path) -> Iterator[Program]:
    program = Program(
        (sys.executable, "-m", "dockstack", "synapse", "-c", "synapse.yaml", "--run-dir", ".", "--state-dir", "."),
        directory / "log",
        {"PYTHONPATH": f"{SOURCES}:{directory}"},
    )
    try:
        yield program
    finally:
        program.kill()


def test_the_example_runs(directory: Path, synapse: Program) -> None:
    hosts = directory / "hosts.txt"

    def said() -> str:
        return hosts.read_text() if hosts.exists() else ""

    synapse.start(lambda: said() == "the-web 10.0.0.1 10.0.0.2\n")
    (directory / "web.list").write_text("10.0.0.2:80 a/b:80 10.0.0.3:80\n")
    wait_until(lambda: said() == "the-web 10.0.0.2 10.0.0.3\n", "the change")
    assert "is left out" in synapse.output()
    (directory / "web.list").unlink()
    wait_until(lambda: "No such file" in synapse.output(), "the failure is told")
    assert said() == "the-web 10.0.0.2 10.0.0.3\n"
    (directory / "web.list").write_text("10.0.0.4:80\n")
    wait_until(lambda: said() == "the-web 10.0.0.4\n", "it goes on", 15)


def test_an_output_that_fails_leaves_the_others_alone(directory: Path, synapse: Program) -> None:
    text = (directory / "synapse.yaml").read_text().replace("hosts.txt", "later/hosts.txt")
    (directory / "synapse.yaml").write_text(f"{text}file_output: {{output_directory: files}}\n")
    file, hosts = directory / "files" / "web.json", directory / "later" / "hosts.txt"

    def said() -> str:
        return file.read_text() if file.exists() else ""

    synapse.start(lambda: "10.0.0.2" in said())
    wait_until(lambda: "the output acme_hosts failed" in synapse.output(), "it is told")
    (directory / "web.list").write_text("10.0.0.3:80\n")
    wait_until(lambda: "10.0.0.3" in said(), "the files go on")
    hosts.parent.mkdir()
    wait_until(lambda: hosts.exists() and hosts.read_text() == "the-web 10.0.0.3\n", "it goes on itself", 15)


def test_what_the_example_does_not_like_is_refused(directory: Path) -> None:
    text = (directory / "synapse.yaml").read_text()
    (directory / "synapse.yaml").write_text(text.replace(" list: web.list,", ""))
    done = subprocess.run(
        (sys.executable, "-m", "dockstack", "synapse", "-c", "synapse.yaml", "--run-dir", ".", "--state-dir", "."),
        env={"PYTHONPATH": f"{SOURCES}:{directory}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, "`list` is missing" in done.stderr) == (2, True)
