"""The images of the tests, built by whatever builder there is. An image is named by its id: a tag may move on."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.docker.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
SERVERS = Path(__file__).parent / "servers"
# A package index of the machine's own, if it has one.
_ARGUMENTS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_LIMIT = 600.0


def build(engine: Engine, directory: Path, tag: str, *options: str, buildkit: str | None = None) -> str:
    """Builds a directory's Dockerfile, with the classic builder or by the client `buildkit`; returns the image's id."""
    arguments = (word for name in _ARGUMENTS for word in ("--build-arg", name))
    # The classic builder leaves the container of a step that failed, unless it is told not to.
    kept = () if buildkit else ("--force-rm",)
    words = ("build", "--quiet", *kept, "--tag", tag, *arguments, *options, str(directory))
    environment = {"DOCKER_BUILDKIT": "1" if buildkit else "0"}
    done = engine.attempt(*words, limit=_LIMIT, environment=environment, program=buildkit or "docker")
    assert done.returncode == 0, f"docker build of {directory} {options}:\n{done.stderr[-6000:]}{done.stdout[-2000:]}"
    return engine.docker("image", "inspect", "--format", "{{.Id}}", tag)


def buildkit_client() -> str | None:
    """A docker client that can drive BuildKit: one with buildx, or one so old that it does so by itself."""
    for name in ("docker", "/usr/bin/docker"):
        client = shutil.which(name)
        if client and (_runs(client, "buildx", "version") or _major(client) < 23):
            return client
    return None


def _runs(*words: str) -> bool:
    return subprocess.run(words, check=False, capture_output=True, timeout=20).returncode == 0


def _major(client: str) -> int:
    said = subprocess.run([client, "--version"], check=False, capture_output=True, text=True, timeout=20).stdout
    return int(said.split("version ")[-1].split(".")[0])
