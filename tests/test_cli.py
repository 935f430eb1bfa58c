"""The commands as programs: what they refuse, with what words, what they load, and how a daemon lives and ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockstack import __version__, templates
from tests.e2e.programs import Daemon, dockstack, until

GOLDEN = Path(__file__).parent / "golden"


def run(cwd: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in an empty environment of its own: whatever it writes is below `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "dockstack", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": str(cwd), "XDG_RUNTIME_DIR": str(cwd), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


NERVE = ("nerve", "-d", "zk://127.0.0.1:1/x", "-s")
SYNAPSE = ("synapse", "-d", "zk://127.0.0.1:1/x", "-s")

REFUSED = {
    "an unknown flag": (("nerve", "--frobnicate"), "No such option '--frobnicate'"),
    "a misspelt flag": (("synapse", "--servise", "a:b:/c"), "--service"),
    "a flag before its command": (("-d", "zk://h/x", "nerve"), "-d stands behind the command that it is for: "),
    "an unknown command": (("nerv",), "No such command 'nerv'"),
    "an unknown TYPE": ((*NERVE, "a:mysq:80:/a"), "-s a:mysq:80:/a: unknown TYPE 'mysq'"),
    "an unknown URL scheme": (("nerve", "-d", "zoo://h", "-s", "a:tcp:80:/a"), "-d zoo://h: "),
    "a container": ((*NERVE, "a:tcp:d:3306:/a"), "'d' is no name of a container"),
    "a jq program that does not compile": ((*NERVE, "a:tcp:80:/a", "-r", "a:.x["), "-r a:.x[: jq: error: syntax"),
    "a jq program that fails": ((*NERVE, "a:tcp:80:/a", "-r", "a:.host.x"), "-r a:.host.x: "),
    "a jq program for nobody": ((*NERVE, "a:tcp:80:/a", "-r", "b:.x=1"), "-r b:.x=1: there is no service 'b'"),
    "a port out of range": ((*NERVE, "a:tcp:65536:/a"), "-s a:tcp:65536:/a: port 65536 is not between 1 and 65535"),
    "a port set out of range": ((*SYNAPSE, "a:http:/a", "-r", "a:.haproxy.port=0"), "services.a.haproxy.port: port 0"),
    "two services of one name": (
        (*NERVE, "a:tcp:80:/a", "-s", "a:tcp:81:/a"),
        "-s a:tcp:81:/a: there are two services called a",
    ),
    "two services on one port": ((*SYNAPSE, "a:http:/a", "-s", "b:http:/b"), "b would bind 0.0.0.0:80, as a does"),
    "a service on the statistics' port": (
        (*SYNAPSE, "a:http:/a", "--stats", "127.0.0.1:80"),
        "a binds 0.0.0.0:80, where the statistics page is",
    ),
    "no registry": (("nerve", "-s", "a:tcp:80:/a"), "-d: is missing"),
    "nothing at all": (("synapse",), "there is nothing to do"),
    "a file that is not there": (("nerve", "-c", "none.yaml"), "none.yaml: there is no such file"),
    "a directory": (("nerve", "-c", "."), ".: is a directory"),
    "a duplicate key": (("nerve", "-c", "twice.yaml"), "twice.yaml:4: services.a.port: a duplicate key"),
    "a YAML error": (("nerve", "-c", "broken.yaml"), "broken.yaml:2:7: not valid YAML: "),
    "a tab": (("synapse", "-c", "tab.yaml"), "tab.yaml:2:1: not valid YAML: "),
    "an unknown key": (("nerve", "-c", "unknown.yaml"), "unknown.yaml:2: servics: unknown key; did you mean services?"),
    "a socket's path that is too long": (
        (*NERVE, "a:tcp:80:/a", "--run-dir", "/" + "d" * 90),
        "give a shorter directory with --run-dir",
    ),
    "a run directory that cannot be": (
        (*NERVE, "a:tcp:80:/a", "--run-dir", "twice.yaml/run"),
        "choose another directory with --run-dir",
    ),
    "a drain that is no number": ((*NERVE, "a:tcp:80:/a", "--drain", "x"), "'--drain'"),
    "no HAProxy": ((*SYNAPSE, "a:http:/a", "--stats", "off", "--haproxy", "/none"), "'--haproxy': File '/none'"),
    "a HAProxy that is none": ((*SYNAPSE, "a:http:/a", "--haproxy", "/bin/true"), "--haproxy: /bin/true is no HAProxy"),
    "a plan for a HAProxy that is none": (
        ("plan", *SYNAPSE[1:], "a:http:/a", "--haproxy", "/bin/true"),
        "--haproxy: /bin/true is no HAProxy",
    ),
    "a choice that is none": (("nerve", "-c", "unknown.yaml", "--unknown-keys", "maybe"), "'--unknown-keys'"),
}  # fmt: skip

FILES = {
    "twice.yaml": "instance_id: i\nservices:\n  a: {host: h,\n    port: 1, port: 2}\n",
    "broken.yaml": "services:\n  a: b: c\n",
    "tab.yaml": "services:\n\ta: 1\n",
    "unknown.yaml": "instance_id: i\nservics: {}\n",
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_clear_message_and_nothing_else(case: str, tmp_path: Path) -> None:
    arguments, message = REFUSED[case]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    done = run(tmp_path, *arguments, SERVICE_HOST="127.0.0.1")
    told = [line for line in done.stderr.splitlines() if line and not line.startswith(("Usage: ", "Try '"))]
    assert len(told) == 1, done.stderr
    assert message in told[0]
    assert (done.returncode, done.stdout) == (2, "")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == FILES.keys()


def test_an_unreadable_file(tmp_path: Path) -> None:
    file = tmp_path / "n.yaml"
    file.write_text("instance_id: i\n")
    file.chmod(0)
    if os.access(file, os.R_OK):  # root may read everything: something that nobody may read instead
        file = Path("/proc/self/mem")
    done = run(tmp_path, "nerve", "-c", str(file))
    assert done.returncode == 2
    assert f"dockstack: {file}: " in done.stderr
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("case", sorted(path.parent.name for path in GOLDEN.glob("9*/error.txt")))
def test_the_recorded_refusals(case: str, tmp_path: Path) -> None:
    text = (GOLDEN / case / "synapse.yaml").read_text().replace("@RUN@", str(tmp_path / "run"))
    (tmp_path / "synapse.yaml").write_text(text.replace("@ZK@", "127.0.0.1:1"))
    done = run(tmp_path, "synapse", "-c", "synapse.yaml")
    wanted = (GOLDEN / case / "error.txt").read_text().partition("must contain:")[2].split()
    assert wanted
    assert [word for word in wanted if word not in done.stderr] == []
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert [path.name for path in tmp_path.iterdir()] == ["synapse.yaml"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, *NERVE, "a:tcp:0:/a", "-s", "b:tcp:80", "-s", "c:tcp:80:/c", SERVICE_HOST="h")
    assert [line.partition(": ")[2].partition(": ")[0] for line in done.stderr.splitlines()] == [
        "-s a:tcp:0:/a",
        "-s b:tcp:80",
    ]


def test_a_configuration_is_checked(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("instance_id: i\nservices: {a: {host: h, port: 1, zk_hosts: z, zk_path: /a}}\n")
    (tmp_path / "bad.yaml").write_text("services: {}\n")
    for good in (
        run(tmp_path, "nerve", "-c", "good.yaml", "-k"),
        run(tmp_path, "nerve", "--config", "good.yaml", "--check-config"),
        run(tmp_path, "nerve", NERVE_CONFIG="good.yaml", NERVE_CHECK_CONFIG="1"),
        run(tmp_path, "check", "good.yaml"),
        run(tmp_path, "check", "good.yaml", "--role", "nerve"),
        run(tmp_path, *NERVE, "a:tcp:80:/a", "-k", SERVICE_HOST="h"),
        run(tmp_path, "nerve", "-c", "bad.yaml", "-i", "me", "-k"),
    ):
        assert (good.returncode, good.stderr) == (0, "")
        assert "the configuration is valid" in good.stdout
    for bad in (run(tmp_path, "nerve", "-c", "bad.yaml", "-k"), run(tmp_path, "check", "bad.yaml")):
        assert (bad.returncode, bad.stdout) == (2, "")
        assert "bad.yaml:1: instance_id: is missing" in bad.stderr
    (tmp_path / "bad.yaml").write_text("instance_id: i\nfoo: 1\n")
    lenient = run(tmp_path, "check", "bad.yaml", DOCKSTACK_UNKNOWN_KEYS="warn")
    assert (lenient.returncode, lenient.stderr) == (0, "dockstack: warning: bad.yaml:2: foo: unknown key, ignored\n")


LOADED = """
import sys
from dockstack.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
names = ("aiohttp", "aiodocker", "pydantic", "aiozk", "asyncio", "yaml", "jq", "uvloop")
print(*(name for name in names if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (("--help",), ""),
        (("nerve", "-h"), ""),
        (("--version",), ""),
        (("health", "--run-dir", "/none"), "asyncio"),
    ],
)
def test_a_command_loads_what_it_needs(arguments: tuple[str, ...], loaded: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == loaded


@pytest.mark.parametrize(
    ("service", "loaded"),
    [
        ("port: 1, zk_hosts: [z], zk_path: /a", {"aiozk"}),
        ("port: 1, reporter_type: etcd, etcd_host: e", {"aiohttp"}),
        ("container: c, container_port: 1, zk_hosts: [z], zk_path: /a", {"aiozk", "aiohttp", "aiodocker"}),
    ],
)
def test_what_no_check_may_wait_for_is_loaded_with_the_configuration(
    service: str, loaded: set[str], tmp_path: Path
) -> None:
    (tmp_path / "n.yaml").write_text(f"instance_id: i\nservices: {{a: {{host: h, {service}}}}}\n")
    command = [sys.executable, "-c", LOADED, "nerve", "-k", "-c", str(tmp_path / "n.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert {"aiozk", "aiohttp", "aiodocker"} & set(done.stdout.split()) == loaded


@pytest.mark.parametrize("command", [(), ("nerve",), ("synapse",), ("demo",), ("check",), ("health",), ("ready",)])
def test_help(command: tuple[str, ...], tmp_path: Path) -> None:
    short, long = run(tmp_path, *command, "-h"), run(tmp_path, *command, "--help")
    assert (short.returncode, short.stderr) == (0, "")
    assert short.stdout == long.stdout
    assert "Usage: " in short.stdout


def test_help_in_eighty_columns_is_whole(tmp_path: Path) -> None:
    listed = run(tmp_path, "--help", COLUMNS="80").stdout.partition("Commands:")[2]
    assert "synapse" in listed
    assert "..." not in listed
    for role in ("nerve", "synapse"):
        said = run(tmp_path, role, "--help", COLUMNS="80").stdout
        types = " ".join(said.partition("TYPE: ")[2].split()).partition(", or a")[0].split(", ")
        assert types == [*templates.types(role, ())]
        assert "(0)" not in said
        assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize("role", ["nerve", "synapse"])
def test_each_role_is_a_command_of_its_own(role: str, tmp_path: Path) -> None:
    program = f"from dockstack.cli import {role}_main; {role}_main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "-c", "none.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "dockstack: none.yaml: there is no such file\n")


# --- a daemon's life ----------------------------------------------------------------------------------------------


@pytest.fixture
def service() -> Iterator[int]:
    """A port that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def nerve(tmp_path: Path, port: int) -> tuple[str, ...]:
    return (
        *("nerve", "-d", f"file://{tmp_path}/registry", "-s", f"web:tcp:{port}:/web", "-r", "web:.check_interval=0.1"),
        *("--run-dir", str(tmp_path / "run")),
    )


def answers(tmp_path: Path, question: str, *more: str) -> subprocess.CompletedProcess[str]:
    return run(tmp_path, question, "--run-dir", str(tmp_path / "run"), *more)


def test_a_daemon_is_asked_how_it_is(tmp_path: Path, service: int) -> None:
    nobody = answers(tmp_path, "health")
    assert nobody.returncode == 1
    assert "no daemon runs in" in nobody.stderr
    with dockstack(tmp_path / "log", *nerve(tmp_path, service), SERVICE_HOST="127.0.0.1") as daemon:
        until("readiness", lambda: answers(tmp_path, "ready").returncode == 0, 30, daemon)
        well = answers(tmp_path, "health")
        assert (well.returncode, well.stderr) == (0, "")
        assert well.stdout.startswith("nerve: ")
        assert answers(tmp_path, "ready", "--role", "nerve").returncode == 0
        absent = answers(tmp_path, "health", "--role", "synapse")
        assert absent.returncode == 1
        assert "synapse.sock" in absent.stderr
        second = run(tmp_path, *nerve(tmp_path, service), SERVICE_HOST="127.0.0.1")
        assert second.returncode == 1
        assert f"(pid {daemon.process.pid}) runs in this directory already" in second.stderr
        assert "Traceback" not in second.stderr
        assert daemon.terminate() < 2
    assert answers(tmp_path, "health").returncode == 1


def test_a_killed_daemon_is_not_well(tmp_path: Path, service: int) -> None:
    with dockstack(tmp_path / "log", *nerve(tmp_path, service), SERVICE_HOST="127.0.0.1") as daemon:
        until("readiness", lambda: answers(tmp_path, "ready").returncode == 0, 30, daemon)
        daemon.kill()
        dead = answers(tmp_path, "health")
        assert dead.returncode == 1
        assert "nerve.sock: Connection refused" in dead.stderr
    with dockstack(tmp_path / "log", *nerve(tmp_path, service), SERVICE_HOST="127.0.0.1") as again:
        until("readiness after the kill", lambda: answers(tmp_path, "ready").returncode == 0, 30, again)


def test_the_log_has_a_time_and_a_level_in_each_line(tmp_path: Path, service: int) -> None:
    with dockstack(tmp_path / "log", *nerve(tmp_path, service), SERVICE_HOST="127.0.0.1") as daemon:
        until("a line of the log", lambda: "web" in daemon.output, 30, daemon)
        daemon.terminate()
    assert (
        f"INFO dockstack nerve {__version__}, pid {daemon.process.pid}, run directory " in daemon.output.splitlines()[0]
    )
    for line in daemon.output.splitlines():
        day, clock, level, *said = line.split()
        time.strptime(f"{day} {clock.partition(',')[0]}", "%Y-%m-%d %H:%M:%S")
        assert level in ("INFO", "WARNING")
        assert said


def hang_up(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGHUP)


def test_a_broken_file_on_sighup_keeps_the_old_one(tmp_path: Path, service: int) -> None:
    config = tmp_path / "nerve.yaml"
    entry = f"{{host: 127.0.0.1, port: {service}, reporter_type: file, file_directory: {tmp_path}/registry, file_path: "
    config.write_text(f"instance_id: i\nservices:\n  one: {entry}/one}}\n")
    with dockstack(tmp_path / "log", "nerve", "-c", str(config), "--run-dir", str(tmp_path / "run")) as daemon:
        until("the registration of one", lambda: any((tmp_path / "registry/one").glob("*")), 30, daemon)
        config.write_text("instance_id: i\nservices:\n  one: {fail: 2}\n")
        hang_up(daemon)
        until("the refusal", lambda: "nerve.yaml:3: services.one.fail: unknown key" in daemon.output, 30, daemon)
        assert any((tmp_path / "registry/one").glob("*"))
        config.write_text(f"instance_id: i\nservices:\n  one: {entry}/one}}\n  two: {entry}/two}}\n")
        hang_up(daemon)
        until("the registration of two", lambda: any((tmp_path / "registry/two").glob("*")), 30, daemon)
        daemon.terminate()
