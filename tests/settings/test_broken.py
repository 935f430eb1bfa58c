"""Broken files, made from good ones: each is refused with exit status 2 and its place, and none ends in a traceback."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from dockstack.cli import main
from dockstack.documents import Steps, spelled
from tests.settings.good import NERVE, SYNAPSE

GOOD = {"nerve": NERVE, "synapse": SYNAPSE}
ROLES = sorted(GOOD)

ANYTHING = {"labels", "value"}
"""Keys below which any value is a good one."""

NAMES = {"services", "watchers", "labels", "headers", "extra_sections", "sample_rate"}
"""Keys below which each key is a name of the user's."""

FOR_HAPROXY = {
    *("global", "defaults", "frontend", "backend", "listen", "shared_frontend", "extra_sections"),
    *("server_options", "haproxy_server_options", "bind_options", "check_command", "reload_command", "command"),
}
"""Keys below which `${…}` is not ours."""


@dataclass(frozen=True)
class Broken:
    """The bytes of a file, and what its message must hold."""

    content: bytes
    place: str


def places(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Every value in a document with the way to it, but for those where anything may stand."""
    yield steps, value
    if steps and steps[-1] in ANYTHING:
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inner:
        yield from places(one, (*steps, step))


def at(data: Any, steps: Steps) -> Any:
    for step in steps:
        data = data[step]
    return data


def with_value(data: dict[str, Any], steps: Steps, value: Any) -> dict[str, Any]:
    data = copy.deepcopy(data)
    at(data, steps[:-1])[steps[-1]] = value
    return data


def without(data: dict[str, Any], steps: Steps) -> dict[str, Any]:
    data = copy.deepcopy(data)
    del at(data, steps[:-1])[steps[-1]]
    return data


def written(data: Any, as_json: bool) -> bytes:
    text = json.dumps(data, indent=1) if as_json else yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text.encode()


def below(steps: Steps, keys: set[str]) -> bool:
    return any(step in keys for step in steps)


Draw = Callable[[st.SearchStrategy[Any]], Any]


def chosen(draw: Draw, role: str, fits: Callable[[Steps, Any], bool]) -> Steps:
    found = [steps for steps, value in places(GOOD[role]) if steps and fits(steps, value)]
    return draw(st.sampled_from(found))  # type: ignore[no-any-return]


def changed(draw: Draw, role: str, steps: Steps, value: Any) -> Broken:
    return Broken(written(with_value(GOOD[role], steps, value), draw(st.booleans())), spelled(steps[:2]))


def wrong_type(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, lambda steps, _: steps[-1] not in ("value", "use_path_encoding"))
    given = at(GOOD[role], steps)
    wrong: list[Any] = [{"zz": [[]]}, [[{}]]]
    if isinstance(given, dict):
        wrong = [[], 5, "text"] if steps[-1] != "label_filter" else [5, "text"]
    elif isinstance(given, bool):
        wrong += ["true", 1]
    elif isinstance(given, int | float) and not isinstance(given, bool):
        wrong += [True, "many", ""]
    return changed(draw, role, steps, draw(st.sampled_from(wrong)))


def required(steps: Steps, _: Any) -> bool:
    """Whether a file without this key is not whole."""
    key, owner = steps[-1], steps[-2] if len(steps) > 1 else ""
    if key in ("instance_id", "global", "defaults", "discovery", "output_directory", "resolver", "sequential_order"):
        return True
    if key in ("config_file_path", "socket_file_path", "hosts", "directory", "label", "zk_hosts", "zk_path", "uri"):
        return True
    if key in ("file_directory", "file_path", "type", "marathon_api_url", "application_name", "servers"):
        return True
    if key == "method":
        return owner not in ("decode",) and steps[-2:] != ("discovery_multi", "method")
    if key in ("host", "port"):
        return (len(steps) == 3 and steps[0] == "services") or "default_servers" in steps
    return key == "path"


def missing_key(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, required)
    return Broken(written(without(GOOD[role], steps), draw(st.booleans())), spelled(steps[:1]))


def unknown_key(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, lambda steps, one: isinstance(one, dict) and steps[-1] not in NAMES | ANYTHING)
    key = draw(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12).map(lambda text: f"zz{text}"))
    value = draw(st.sampled_from([None, 1, "x", [], {}]))
    return changed(draw, role, (*steps, key), value)


FREE_NUMBERS = {
    *("max_repeated_report_failures", "discovery_jitter", "server_order_seed"),
    *("max_attempts", "max_delay", "base_interval", "max_interval"),
}
"""Numbers that may be any."""


def a_number(steps: Steps, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and steps[-1] not in FREE_NUMBERS | {"value"}


def negative(draw: Draw, role: str) -> Broken:
    wrong = draw(st.one_of(st.integers(max_value=-1), st.floats(max_value=-0.01, allow_infinity=False)))
    return changed(draw, role, chosen(draw, role, a_number), wrong)


def huge(draw: Draw, role: str) -> Broken:
    """A port of many digits; a number that no float holds; more digits than a number may have."""
    steps = chosen(
        draw, role, lambda steps, one: a_number(steps, one) and str(steps[-1]).endswith(("port", "port_override"))
    )
    digits = draw(st.sampled_from(["9" * 30, "9" * 5000, "1" * 400 + ".0", ".inf", "-.inf", ".nan", "-0", "1:99:99"]))
    data = with_value(GOOD[role], steps, "DIGITS")
    return Broken(written(data, False).replace(b"DIGITS", digits.encode()), spelled(steps))


def wrong_choice(draw: Draw, role: str) -> Broken:
    choices = {"reporter_type", "node_type", "method", "type", "condition", "backend_order", "cookie_value_method"}
    steps = chosen(draw, role, lambda steps, _: steps[-1] in choices)
    wrong = draw(st.sampled_from(["", "zookeper", "ASC", "None", "tpc", "no such", "%{x}", "\u2603"]))
    return changed(draw, role, steps, wrong)


def wrong_variable(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, lambda steps, one: isinstance(one, str) and not below(steps, FOR_HAPROXY))
    wrong = draw(st.sampled_from(["${NO_SUCH_VARIABLE}", "${", "${}", "${1}", "${A B}", "x${a-b}", "${NO_SUCH:=x}"]))
    return changed(draw, role, steps, wrong)


def nul(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, lambda _, one: isinstance(one, str))
    data = with_value(GOOD[role], steps, draw(st.sampled_from(["\0", "a\0b", "/tmp\0"])))
    return Broken(json.dumps(data).encode(), spelled(steps[:2]))


def line_break(draw: Draw, role: str) -> Broken:
    lines = {"haproxy_server_options", "bind_address", "bind_options", "server_options", "backend_name"}
    lists = {"frontend", "backend", "listen", "global", "defaults", "shared_frontend"}
    steps = chosen(
        draw,
        role,
        lambda steps, one: isinstance(one, str) and (steps[-1] in lines or (len(steps) > 1 and steps[-2] in lists)),
    )
    return changed(draw, role, steps, draw(st.sampled_from(["a\nb", "a\rb", "a\r\nserver x 1:1"])))


def wrong_bytes(draw: Draw, role: str) -> Broken:
    content = written(GOOD[role], draw(st.booleans()))
    where = draw(st.integers(0, len(content)))
    wrong = draw(st.sampled_from([b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\x07", b"\xf8\x88\x80\x80\x80"]))
    if draw(st.booleans()):
        return Broken(content[:where] + wrong + content[where:], "")
    return Broken(content.decode().encode(draw(st.sampled_from(["utf-16-le", "utf-32"]))), "")


def not_yaml(draw: Draw, role: str) -> Broken:
    content = written(GOOD[role], False)
    lines = content.split(b"\n")
    wrong = [b"\t- x", b"  ]", b"a: b: c", b"{", b"[", b'"', b"'", b"- *nowhere", b"%YAML 9", b"x: !!python/none", b"@"]
    number = draw(st.integers(0, len(lines) - 2))
    lines.insert(number, draw(st.sampled_from(wrong)))
    return Broken(b"\n".join(lines), "")


def truncated(draw: Draw, role: str) -> Broken:
    content = json.dumps(GOOD[role]).encode()
    return Broken(content[: draw(st.integers(1, len(content) - 1))], "")


def twice(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, lambda steps, _: isinstance(steps[-1], str))
    owner, key = at(GOOD[role], steps[:-1]), steps[-1]
    data = with_value(GOOD[role], steps[:-1], "OWNER") if len(steps) > 1 else "OWNER"
    value = json.dumps(owner[key])
    pairs = [f"{json.dumps(one)}: {json.dumps(other)}" for one, other in owner.items()]
    doubled = ", ".join([*pairs, f"{json.dumps(key)}: {value}"])
    return Broken(json.dumps(data).replace('"OWNER"', f"{{{doubled}}}").encode(), spelled(steps))


def no_map(draw: Draw, role: str) -> Broken:
    del role
    deep = draw(st.integers(65, 50_000))
    texts = ["[]", "- a", "5", "text", "true", "--- a\n--- b", "? [a]\n: b", "&a [*a]", "a: &a {b: *a}"]
    texts += ["[" * deep + "]" * deep, "{a: " * deep + "}" * deep, "- " * deep, "a: !!binary x"]
    return Broken(draw(st.sampled_from(texts)).encode(), "")


def foreign_code(draw: Draw, role: str) -> Broken:
    steps = chosen(draw, role, lambda _, one: isinstance(one, str))
    wrong = ["<%= 1 + 1 %>", "<% if x %>", "<%", "<%= ENV.fetch('NO_SUCH') %>", "<%= `id` %>", "<%= ENV['X'].to_i %>"]
    return Broken(written(with_value(GOOD[role], steps, draw(st.sampled_from(wrong))), False), "")


def other_faults(draw: Draw, role: str) -> Broken:
    """Values that are of the right kind and still cannot be: paths, hosts, names, and what contradicts itself."""
    nerve: list[tuple[Steps, Any]] = [
        (("services", "web", "zk_path"), ""),
        (("services", "web", "zk_hosts"), []),
        (("services", "web", "zk_hosts"), ["a:b:c"]),
        (("services", "web", "zk_hosts"), ["h:99999"]),
        (("services", "web", "zk_hosts"), ["h/a", "i/b"]),
        (("services", "web", "zk_auth"), "nobody"),
        (("services", "web", "host"), "a b"),
        (("services", "web", "host"), ""),
        (("services", "web", "weight"), None),
        (("services", "web", "haproxy_server_options"), "a\u2028b"),
        (("services", "web", "checks", 0, "type"), "no_such"),
        (("services", "web", "checks", 0, "module"), "no_such_module"),
        (
            ("services", "web", "checks", 1),
            {"type": "http", "uri": "/", "ssl": True, "verify": True, "ca_file": "/no/such/file.pem"},
        ),
        (("instance_id",), "a b"),
        (("instance_id",), "a/b"),
        (("instance_id",), ""),
        (("service_conf_dir",), "/no/such/directory"),
    ]
    synapse: list[tuple[Steps, Any]] = [
        (("services", "web", "discovery", "hosts"), []),
        (("services", "web", "discovery", "hosts"), ["h:x"]),
        (("services", "web", "discovery", "path"), "web"),
        (("services", "web", "haproxy", "server_options"), "%{nobody}"),
        (("services", "web", "haproxy", "server_options"), "50%"),
        (("services", "web", "haproxy", "listen"), ["reqadd X"]),
        (("services", "web", "haproxy", "listen"), ["no option httplog"]),
        (("services", "poll", "haproxy"), {"port": 3211}),
        (("services", "many", "haproxy", "bind_address"), None),
        (("services", "a b"), {"discovery": {"method": "base"}}),
        (("services", "poll", "discovery_multi", "resolver", "sequential_order"), ["spare"]),
        (("services", "poll", "discovery_multi", "resolver", "sequential_order"), ["primary", "spare", "spare"]),
        (("services", "poll", "discovery", "method"), "multi"),
        (("haproxy", "socket_file_path"), None),
        (("haproxy", "config_file_path"), None),
        (("haproxy", "max_server_id"), 0),
        (("haproxy", "defaults"), ["contimeout 5s"]),
        (("haproxy", "extra_sections", "listen more"), ["block if x"]),
        (("service_conf_dir",), "/no/such/directory"),
    ]
    steps, value = draw(st.sampled_from(nerve if role == "nerve" else synapse))
    return Broken(written(with_value(GOOD[role], steps, value), draw(st.booleans())), str(steps[0]))


KINDS = (
    *(wrong_type, missing_key, unknown_key, negative, huge, wrong_choice, wrong_variable, nul, line_break),
    *(wrong_bytes, not_yaml, truncated, twice, no_map, foreign_code, other_faults),
)


def check(file: Path, role: str) -> tuple[int, str, str, BaseException | None]:
    """What `dockstack check` says: its exit status, its standard error and output, and what it raised."""
    done = CliRunner().invoke(main, ["check", str(file), "--role", role])
    raised = None if isinstance(done.exception, SystemExit) else done.exception
    return done.exit_code, done.stderr, done.stdout, raised


@pytest.mark.parametrize("role", ROLES)
def test_what_they_are_made_from_is_good(role: str, tmp_path: Path) -> None:
    for as_json in (True, False):
        (tmp_path / "good").write_bytes(written(GOOD[role], as_json))
        status, error, _, raised = check(tmp_path / "good", role)
        assert (status, raised) == (0, None), error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("role", ROLES)
def test_a_broken_file_is_refused_with_its_place(
    role: str, kind: Callable[[Draw, str], Broken], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("broken") / "file.yaml"

    @settings(max_examples=40, derandomize=True, deadline=None, database=None)
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        broken = kind(data.draw, role)
        file.write_bytes(broken.content)
        status, error, output, raised = check(file, role)
        assert raised is None, (broken.content, error)
        assert (status, output) == (2, ""), (broken.content, error)
        lines = [line for line in error.splitlines() if line.startswith("dockstack: ")]
        assert lines, error
        assert all(str(file) in line for line in lines), error
        assert broken.place in error, (broken.content, error)

    refused()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_program_itself_refuses_it(kind: Callable[[Draw, str], Broken], tmp_path: Path) -> None:
    """One of each kind through the real command, for both daemons: nothing is started, nothing is written."""
    role = ROLES[KINDS.index(kind) % 2]
    if kind is line_break:
        role = "synapse"
    found: list[Broken] = []

    @settings(max_examples=1, derandomize=True, deadline=None, database=None)
    @given(st.data())
    def one(data: st.DataObject) -> None:
        found.append(kind(data.draw, role))

    one()
    (tmp_path / "file.yaml").write_bytes(found[0].content)
    done = subprocess.run(
        [sys.executable, "-m", "dockstack", role, "-c", "file.yaml"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        | {key: value for key, value in os.environ.items() if key == "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "file.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.rglob("*")} == {"file.yaml"}
