"""The page on checks of your own: its package, installed, checks a service as the page says."""

from __future__ import annotations

import asyncio
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dockstack.configure import file
from dockstack.errors import ConfigurationError
from dockstack.nerve import probe
from dockstack.nerve.judge import History
from dockstack.nerve.service import Service, plan

PAGE = Path(__file__).parent.parent / "docs" / "plugins.md"


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's package as an installer would leave it, in a directory that is searched for this test."""
    project = tomllib.loads(block("toml"))["project"]
    site = tmp_path / "site"
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (site / "acme_checks.py").write_text(block("python"))
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
        for group, names in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(site)
    sys.modules.pop("acme_checks", None)  # another test's package may have a module of that name
    yield site
    sys.modules.pop("acme_checks", None)


def written(directory: Path, **keys: object) -> Path:
    """The page's nerve file, with other keys of the check."""
    data = yaml.safe_load(block("yaml"))
    (check,) = data["services"]["jobs"]["checks"]
    check.update(keys)
    made = directory / "nerve.yaml"
    made.write_text(yaml.safe_dump({"instance_id": "i", **data}))
    return made


def service(path: Path) -> Service:
    (one,) = plan(file(path, None, False, {}).settings)
    return one


async def reason(service: Service) -> str | None:
    """Why the service is not healthy, None if it is."""
    _, (outcome,) = await probe.run(service.probes, (History(),))
    assert outcome.bug is None
    return None if outcome.healthy else outcome.reason


@pytest.mark.usefixtures("installed")
async def test_the_page_is_true(tmp_path: Path) -> None:
    answers = [b"50\n", b"51\n", b"many\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"length\n"
        writer.write(answers.pop(0))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        jobs = service(written(tmp_path, host="127.0.0.1", port=port))
        assert await reason(jobs) is None
        assert await reason(jobs) == "51 jobs are waiting, more than 50"
        assert await reason(jobs) == "the answer is no number"
    assert await reason(jobs) == f"127.0.0.1:{port}: Connection refused"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("keys", [{}, {"module": "queue"}, {"module": "queue", "type": "jobs"}])
def test_type_and_module_mean_the_entry_point(keys: dict[str, object], tmp_path: Path) -> None:
    (one,) = service(written(tmp_path, **keys)).probes
    assert one.name == f"jobs {keys.get('type', 'queue')}-10.0.0.5:7711"
    assert (one.deadline, one.rule.fall, one.rule.rise) == (0.5, 2, 1)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"limit": 0}, "limit must be a whole number above 0"),
        ({"type": "queues"}, 'unknown type "queues"; known: tcp, http'),
        ({"module": "queues"}, "there is no plug-in 'queues' among the checks; did you mean queue?"),
        ({"module": "tcp"}, "module tcp is built in: write it as the type, alone"),
        ({"type": "tcp"}, "unknown key"),
        ({"timeout": "soon"}, "must be a number"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_file(keys: dict[str, object], what: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        service(written(tmp_path, **keys))
    (problem,) = raised.value.problems
    assert what in problem.what
    assert "services.jobs.checks[0]" in problem.where


def test_without_the_package_the_type_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match='unknown type "queue"'):
        service(written(tmp_path))
