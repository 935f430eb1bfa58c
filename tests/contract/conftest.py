"""Each contract runs in each world; at the end a table says which holds where."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.world_etcd import etcd_world
from tests.contract.world_file import file_world
from tests.contract.world_memory import memory_world
from tests.contract.world_zookeeper import zookeeper_world
from tests.contract.worlds import NotApplicable, World
from tests.servers.etcd import EtcdServer
from tests.servers.zookeeper import ZooKeeperServer

COLUMNS = ("memory", "file", "zookeeper", "one-shot", "etcd")
"""`one-shot` is ZooKeeper again, as if it were older than 3.6: without persistent watches."""

_table = pytest.StashKey[dict[str, dict[str, str]]]()
_not_applicable = pytest.StashKey[bool]()

OpenWorld = Callable[[], AbstractAsyncContextManager[World]]


@pytest.fixture(scope="session")
def contract_server(tmp_path_factory: pytest.TempPathFactory) -> Generator[ZooKeeperServer]:
    """A ZooKeeper for the contracts alone, because they kill it."""
    with ZooKeeperServer(tmp_path_factory.mktemp("contract")) as server:
        yield server


@pytest.fixture(scope="session")
def contract_etcd(tmp_path_factory: pytest.TempPathFactory) -> Generator[EtcdServer]:
    """An etcd for the contracts alone, because they kill it."""
    with EtcdServer(tmp_path_factory.mktemp("contract-etcd")) as server:
        yield server


@pytest.fixture(params=COLUMNS)
def open_world(request: pytest.FixtureRequest, tmp_path: Path) -> OpenWorld:
    if request.param == "memory":
        return memory_world
    if request.param == "file":
        return lambda: file_world(tmp_path)
    if request.param == "etcd":
        etcd: EtcdServer = request.getfixturevalue("contract_etcd")
        return lambda: etcd_world(etcd)
    server: ZooKeeperServer = request.getfixturevalue("contract_server")
    return lambda: zookeeper_world(server, persistent_watches=request.param == "zookeeper")


@pytest_asyncio.fixture
async def world(open_world: OpenWorld) -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A fault that a world does not know ends the contract early, without failing or skipping it."""
    try:
        return (yield)
    except NotApplicable:
        if _column(pyfuncitem) not in ("memory", "file"):
            raise  # a real server knows them all
        pyfuncitem.stash[_not_applicable] = True
        return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    column = _column(item)
    if column and (report.when == "call" or not report.passed) and isinstance(item, pytest.Function):
        rows = item.config.stash.setdefault(_table, {})
        row = rows.setdefault(item.originalname.removeprefix("test_").replace("_", " "), {})
        row[column] = _worse(row.get(column), "-" if item.stash.get(_not_applicable, False) else report.outcome)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = terminalreporter.config.stash.get(_table, {})
    if not rows:
        return
    columns = [column for column in COLUMNS if any(column in row for row in rows.values())]
    width = max(map(len, rows))
    terminalreporter.section("contracts")
    terminalreporter.write_line(f"{'':{width}}  " + "  ".join(f"{column:>9}" for column in columns))
    for name, row in rows.items():
        terminalreporter.write_line(f"{name:{width}}  " + "  ".join(f"{_word(row, column):>9}" for column in columns))


def _column(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("open_world") if callspec is not None else None


def _worse(before: str | None, now: str) -> str:
    """A contract with several cases holds if all of them do."""
    order = ("-", "passed", "skipped", "failed")
    return max((before or "-", now), key=order.index)


def _word(row: dict[str, str], column: str) -> str:
    return {"passed": "ok", "failed": "FAIL"}.get(row.get(column, ""), row.get(column, ""))
