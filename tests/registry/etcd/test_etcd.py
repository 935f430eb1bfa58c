"""What only etcd has: members that fail, users, TLS, a history that is compacted, one lease for all."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dockstack.errors import ConfigurationError, RegistryUnavailable
from dockstack.events import Event
from dockstack.model import Address
from dockstack.registry import Locator, NodeKind, Reader, Tls
from dockstack.registry.etcd import Etcd
from dockstack.registry.etcd import open as open_etcd
from dockstack.registry.etcd.events import LeaseLost, Unreachable
from dockstack.registry.etcd.gateway import EACH, TRIES
from dockstack.registry.etcd.keys import within
from tests.contract.recording import NERVE, PATH, all_put, copy, kept, never, ports, put_again, watching
from tests.servers.etcd import EtcdCluster, EtcdServer, text
from tests.servers.missing import missing
from tests.servers.ports import free_port
from tests.servers.proxy import TcpProxy
from tests.waiting import eventually


def quiet(event: Event) -> None:
    """Events are of no interest here."""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    with EtcdCluster(tmp_path) as cluster:
        yield cluster


def at(*ports_: int) -> Locator:
    return Locator("etcd", tuple(Address("127.0.0.1", port) for port in ports_), session_timeout=5)


@asynccontextmanager
async def opened(locator: Locator, told: list[Event] | None = None) -> AsyncIterator[Etcd]:
    async with open_etcd(locator, quiet if told is None else told.append) as registry:
        assert isinstance(registry, Etcd)
        assert isinstance(registry, Reader)
        yield registry


def used(registry: Etcd, cluster: EtcdCluster) -> EtcdServer:
    """The member that answers this client."""
    (found,) = (one for one in cluster.members if registry.state == f"connected to {one.hosts}")
    return found


@pytest.mark.parametrize("fault", ["killed", "paused"])
async def test_one_of_three_members_fails_and_all_goes_on(cluster: EtcdCluster, fault: str) -> None:
    locator, numbers = at(*(one.port for one in cluster.members)), range(1, 6)
    async with (
        opened(locator) as registry,
        opened(locator) as reader,
        watching(reader) as recorder,
        kept(registry, [copy(number) for number in numbers]) as services,
    ):
        leases = await services.until_all()
        await recorder.until(numbers)
        seen = len(recorder.snapshots)
        victims = {used(registry, cluster).port: used(registry, cluster)}
        for one in victims.values():
            await asyncio.to_thread(one.kill) if fault == "killed" else one.pause()
        await put_again(registry, copy(9))
        await recorder.until([*numbers, 9])
        assert services.leases == leases
        assert all(len(snapshot.instances) >= 5 for snapshot in recorder.snapshots[seen:])
        for one in victims.values():
            await asyncio.to_thread(one.start) if fault == "killed" else one.resume()


async def test_without_a_majority_nothing_moves_and_then_all_is_well(cluster: EtcdCluster) -> None:
    locator, numbers = replace(at(*(one.port for one in cluster.members)), session_timeout=4), range(1, 6)
    told: list[Event] = []
    async with (
        opened(locator, told) as registry,
        opened(locator) as reader,
        watching(reader) as recorder,
        kept(registry, [copy(number) for number in numbers]) as services,
    ):
        await services.until_all()
        await recorder.until(numbers)
        seen = len(recorder.snapshots)
        for one in cluster.members[:2]:
            await asyncio.to_thread(one.kill)
        async with asyncio.timeout(8):
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(7))

        def moved() -> bool:
            # Between the two deaths there is a majority: the same set may have been read again from another member.
            return any(ports(one) != [*numbers] for one in recorder.snapshots[seen:])

        await never(moved, "a set that nobody could read", during=3)
        for one in cluster.members[:2]:
            await asyncio.to_thread(one.launch)
        await put_again(registry, copy(9), limit=30)
        await put_again(registry, copy(7))  # it may have been written after all
        await services.until_all(limit=20)
        await recorder.until([*numbers, 7, 9], limit=20)
        assert [str(event) for event in told if isinstance(event, Unreachable)]


async def test_all_keys_are_put_again_together(etcd: EtcdServer) -> None:
    numbers, told = range(1, 51), list[Event]()
    async with opened(at(etcd.port), told) as registry:
        async with kept(registry, [copy(number) for number in numbers]) as services:
            before = await services.until_all()
            lease = registry.tenure.current
            start = etcd.ask("kv/range", {"key": text("/")})["header"]["revision"]
            await asyncio.to_thread(etcd.ask, "lease/revoke", {"ID": str(lease)})
            await services.until_all(other_than=before)
            end = etcd.ask("kv/range", {"key": text("/")})["header"]["revision"]
            assert int(end) - int(start) - 1 <= 15  # transactions: far fewer than services
            assert {one.node.split("_")[1] for one in services.leases} == {f"{registry.tenure.current:016x}"}
        assert [event for event in told if isinstance(event, LeaseLost)]


async def test_the_lease_ends_with_the_process_and_what_is_persistent_stays(etcd: EtcdServer) -> None:
    async with opened(at(etcd.port)) as registry:
        await all_put(registry, [copy(1, path="/gone"), copy(2, kind=NodeKind.PERSISTENT, path="/stays")])
    assert etcd.members("/gone/") == {}
    assert list(etcd.members("/stays/")) == ["i_"]
    async with opened(at(etcd.port)) as registry:
        lease = await registry.put(copy(2, kind=NodeKind.PERSISTENT, path="/stays"))
        await registry.remove(lease)
    assert etcd.members("/stays/") == {}


async def test_a_history_that_is_compacted_is_read_anew(etcd: EtcdServer) -> None:
    async with opened(at(etcd.port)) as registry, watching(registry, "/compacted") as recorder:
        await registry.put(copy(1, path="/compacted"))
        await recorder.until([1])
        revision = etcd.ask("kv/range", {"key": text("/")})["header"]["revision"]
        etcd.ask("kv/compaction", {"revision": revision, "physical": True})
        await registry.put(copy(2, path="/compacted"))
        await recorder.until([1, 2])
        # Who watches from before the compaction is told at once that it cannot be.
        batches = registry.gateway.watch({**within("/compacted/"), "start_revision": "1"})
        async with asyncio.timeout(5):
            async for message in (message async for batch in batches for message in batch):
                if message.get("canceled"):
                    assert int(message["compact_revision"]) == int(revision)
                    break
        await batches.aclose()


async def test_a_path_is_read_once_and_its_own_key_is_its_data(etcd: EtcdServer) -> None:
    etcd.put("/config", b'{"haproxy":{}}')
    etcd.put("/config-other", b"beside it")
    async with opened(at(etcd.port)) as registry:
        await registry.put(copy(1, path="/config"))
        found = await registry.read("/config", NERVE)
        assert (ports(found), found.data) == ([1], b'{"haproxy":{}}')
        assert (await registry.read("/nothing", NERVE)).instances == ()


@pytest.mark.parametrize("kind", [NodeKind.EPHEMERAL_SEQUENTIAL, NodeKind.PERSISTENT], ids=lambda kind: kind.value)
@pytest.mark.parametrize("data", ["lost", "an older state"])
async def test_an_etcd_that_comes_back_with_other_data(tmp_path: Path, kind: NodeKind, data: str) -> None:
    """Its revision is far lower than before, and in an older state our lease is alive."""
    numbers = range(2, 6)
    with EtcdServer(tmp_path) as server:
        async with opened(replace(at(server.port), session_timeout=60)) as registry, watching(registry) as recorder:
            await registry.put(copy(1))
            await asyncio.to_thread(server.stop)
            shutil.copytree(tmp_path / "data", tmp_path / "older")
            await asyncio.to_thread(server.start)
            for _ in range(50):
                server.put("/elsewhere", b"a change")
            # One name for one path: the persistent kind has no number in it.
            copies = [copy(number, kind=kind, path=f"/of/{number}") for number in numbers]
            async with kept(registry, copies) as services:
                await services.until_all()
                await recorder.until([1])
                server.kill()
                shutil.rmtree(tmp_path / "data")
                if data == "an older state":
                    shutil.copytree(tmp_path / "older", tmp_path / "data")
                await asyncio.to_thread(server.start)
                await eventually(lambda: all(server.members(f"/of/{number}/") for number in numbers), "put back", 10)
                await services.until_all()
                server.put(f"{PATH}/x_0000000001", b'{"host":"10.0.0.1","port":77}')
                await recorder.until([77] if data == "lost" else [1, 77])
                (gone,) = server.members("/of/2/")
                server.delete(f"/of/2/{gone}")
                await eventually(lambda: bool(server.members("/of/2/")), "put back after a deletion", 5)


async def test_a_slow_reader_is_not_told_each_change(etcd: EtcdServer) -> None:
    async with opened(at(etcd.port)) as registry, watching(registry, "/slow") as marker:
        snapshots = registry.watch("/slow", NERVE)
        assert ports(await anext(snapshots)) == []
        first = asyncio.ensure_future(anext(snapshots))  # opens the watch
        await asyncio.sleep(0.1)
        await registry.put(copy(1, path="/slow"))
        assert ports(await first) == [1]
        for number in range(2, 51):
            await registry.put(copy(number, path="/slow"))
        await marker.until(range(1, 51))
        seen = 0
        async with asyncio.timeout(5):
            while ports(await anext(snapshots)) != list(range(1, 51)):
                seen += 1
        assert seen <= 3


async def test_many_calls_to_a_silent_member_are_over_at_the_same_time(etcd: EtcdServer) -> None:
    clock = asyncio.get_running_loop().time
    async with TcpProxy(etcd.port) as proxy:
        for has_lease in (False, True):
            async with opened(at(proxy.port)) as registry:
                if has_lease:
                    await put_again(registry, copy(1, path="/silent"))
                proxy.silence()
                began = clock()
                puts = (registry.put(copy(number, path="/silent")) for number in range(2, 302))
                failures = await asyncio.gather(*puts, return_exceptions=True)
                assert {type(failure) for failure in failures} == {RegistryUnavailable}
                assert clock() - began < 2 * TRIES * EACH
                await proxy.heal()


def with_users(server: EtcdServer) -> None:
    """A root, and a user `nerve` who may do everything below /a/ and nothing else."""
    for name, password in (("root", "r00t"), ("nerve", "s3cret")):
        server.ask("auth/user/add", {"name": name, "password": password})
    server.ask("auth/user/grant", {"user": "root", "role": "root"})
    server.ask("auth/role/add", {"name": "ours"})
    permission = {"permType": "READWRITE", "key": text("/a"), "range_end": text("/a0")}
    server.ask("auth/role/grant", {"name": "ours", "perm": permission})
    server.ask("auth/user/grant", {"user": "nerve", "role": "ours"})
    server.ask("auth/enable", {})


async def test_a_user_with_a_password(tmp_path: Path) -> None:
    with EtcdServer(tmp_path) as server:
        server.ask("auth/role/add", {"name": "root"})
        with_users(server)
        locator = replace(at(server.port), username="nerve", password="s3cret")
        async with (
            opened(locator) as registry,
            watching(registry) as recorder,
            kept(registry, [copy(1)]) as services,
        ):
            await services.until_all()
            await recorder.until([1])
            await asyncio.to_thread(server.restart)  # and forgets all tokens
            await put_again(registry, copy(2))
            await recorder.until([1, 2])
            assert len(services.leases) == 1
            with pytest.raises(RegistryUnavailable, match="permission denied"):
                await registry.put(copy(3, path="/elsewhere"))
        for wrong in (replace(locator, password="other"), replace(locator, username=None, password=None)):
            async with opened(wrong) as registry:
                with pytest.raises(RegistryUnavailable, match=r"authentication failed|user name is empty"):
                    await registry.put(copy(4))


async def test_a_hundred_paths_and_a_user_with_a_password(tmp_path: Path) -> None:
    """To verify a password takes etcd a tenth of a second of its processor."""
    with EtcdServer(tmp_path) as server:
        server.ask("auth/role/add", {"name": "root"})
        with_users(server)
        async with (
            opened(replace(at(server.port), username="nerve", password="s3cret")) as registry,
            AsyncExitStack() as s,
        ):
            recorders = [await s.enter_async_context(watching(registry, f"/a/{number}")) for number in range(100)]
            await eventually(lambda: all(one.snapshots for one in recorders), "all read")
            assert not sum(one.failures for one in recorders)
            await asyncio.to_thread(server.restart)
            await put_again(registry, copy(1, path="/a/99"))
            await recorders[99].until([1])


@pytest.fixture
def signing(tmp_path: Path) -> str:
    """etcd's option for tokens that are signed, with a fresh key."""
    openssl = shutil.which("openssl") or missing("openssl", "openssl")
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    for words in (
        (openssl, "genpkey", "-algorithm", "RSA", "-out", private),
        (openssl, "pkey", "-in", private, "-pubout", "-out", public),
    ):
        subprocess.run(words, check=True, capture_output=True, timeout=30)
    return f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"


async def test_a_token_that_ends_with_any_change_of_rights(tmp_path: Path, signing: str) -> None:
    with EtcdServer(tmp_path, options=("--auth-token", signing)) as server:
        server.ask("auth/role/add", {"name": "root"})
        with_users(server)
        root = server.ask("auth/authenticate", {"name": "root", "password": "r00t"})["token"]
        async with opened(replace(at(server.port), username="nerve", password="s3cret")) as registry:
            await registry.put(copy(1))
            server.ask("auth/role/add", {"name": "others"}, root)
            await registry.put(copy(2))


async def test_users_that_are_turned_on_while_we_run(tmp_path: Path) -> None:
    with EtcdServer(tmp_path) as server:
        server.ask("auth/role/add", {"name": "root"})
        async with opened(replace(at(server.port), username="nerve", password="s3cret")) as registry:
            await registry.put(copy(1))
            with_users(server)
            await registry.put(copy(2))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that vouches for itself."""
    openssl = shutil.which("openssl") or missing("openssl", "openssl")
    key, made = tmp_path / "key.pem", tmp_path / "certificate.pem"
    words: Sequence[str | Path] = (
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        *("-keyout", key, "-out", made),
    )
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    return key, made


async def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    key, made = certificate
    with EtcdServer(tmp_path, options=("--cert-file", str(made), "--key-file", str(key))) as server:
        good = replace(at(server.port), tls=Tls(ca_file=str(made)))
        async with opened(good) as registry, watching(registry) as recorder:
            await registry.put(copy(1))
            await recorder.until([1])
        async with opened(replace(good, tls=Tls(verify=False))) as registry:
            await registry.put(copy(1))
        async with opened(replace(good, tls=Tls())) as registry:
            with pytest.raises(RegistryUnavailable, match=r"certificate is refused.*ca_file"):
                await registry.put(copy(1))
        async with opened(replace(good, tls=None)) as registry:
            with pytest.raises(RegistryUnavailable, match="etcds://"):
                await registry.put(copy(1))


async def test_tls_towards_an_etcd_without(etcd: EtcdServer) -> None:
    async with opened(replace(at(etcd.port), tls=Tls(verify=False))) as registry:
        with pytest.raises(RegistryUnavailable, match="does it speak TLS on this port"):
            await registry.put(copy(1))


async def test_what_cannot_be_opened_is_told() -> None:
    with pytest.raises(ConfigurationError, match="no etcd host"):
        async with opened(Locator("etcd")):
            pass
    with pytest.raises(ConfigurationError, match="TLS towards etcd"):
        async with opened(replace(at(1), tls=Tls(ca_file="/not/there"))):
            pass


async def test_nobody_there_is_told_once() -> None:
    told: list[Event] = []
    async with opened(at(free_port(), free_port()), told) as registry:
        await eventually(lambda: bool(told), "told", 20)
        for _ in range(3):
            with pytest.raises(RegistryUnavailable):
                await registry.put(copy(1, path=PATH))
        assert len(told) == 1
        assert "not connected for" in registry.state
