"""The images of the tests, built by whatever builder there is. An image is named by its id: a tag may move on."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docker.engine import NAMES, Engine

ROOT = Path(__file__).resolve().parents[2]
SERVERS = Path(__file__).parent / "servers"
# A package index of the machine's own, if it has one.
_ARGUMENTS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")
_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Image:
    """What an image is made of: a Dockerfile and the directory that it may copy from. `buildkit`: by that builder."""

    name: str
    directory: Path
    file: str = "Dockerfile"
    buildkit: bool = False

    def build(self, engine: Engine) -> str:
        """Builds it, with the classic builder unless it says otherwise; returns the image's id."""
        client = (self.buildkit and buildkit_client()) or "docker"
        # The classic builder leaves the container of a step that failed, unless it is told not to.
        kept = () if self.buildkit else ("--force-rm",)
        arguments = (word for name in _ARGUMENTS for word in ("--build-arg", name))
        tag = f"{NAMES}{self.name}"
        words = ("build", "--quiet", *kept, "--tag", tag, *arguments, "--file", str(self.directory / self.file))
        environment = {"DOCKER_BUILDKIT": str(int(self.buildkit))}
        done = engine.attempt(*words, str(self.directory), limit=_LIMIT, environment=environment, program=client)
        assert done.returncode == 0, f"docker build of {self}:\n{done.stderr[-6000:]}{done.stdout[-2000:]}"
        return engine.docker("image", "inspect", "--format", "{{.Id}}", tag)


# By the fixture that hands them out.
WANTED: Mapping[str, tuple[Image, ...]] = {
    "image": (Image("dockstack", ROOT),),
    "server_image": (
        *(Image(name, SERVERS, f"{name}.Dockerfile") for name in ("zookeeper", "mariadb", "rabbitmq")),
        Image("etcd", ROOT / "examples" / "http-etcd", "etcd.Dockerfile"),
    ),
    "buildkit_image": (Image("dockstack-buildkit", ROOT, buildkit=True),),
}


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
