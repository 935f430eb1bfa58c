"""What synapse's events are worth as metrics, by SmartStack's names and tags. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dockstack import __version__
from dockstack.events import Ended, Event, Reconfigured, Retrying, Started
from dockstack.registry.events import NodeUnread, SessionUsed
from dockstack.registry.zookeeper.events import Expired
from dockstack.statsd import CLEAN, Metric, cluster, stop
from dockstack.synapse.events import (
    AllAnswered,
    CandidateRefused,
    ConfigurationChanged,
    ConfigurationUnusable,
    Discovered,
    Pinged,
    Reloaded,
    Unresolved,
    WatcherChosen,
    WatcherStarted,
    WatcherStopped,
    WatcherUnknown,
    WeightsDrawn,
    WeightsKept,
)

_VERSION = f"synapse_version:{__version__}"
_RELOAD = "the reload"
_RESOLVER = "synapse.watcher.multi.resolver"


def metrics(event: Event) -> Iterator[Metric]:
    """The metrics of one event; none for many."""
    match event:
        case Discovered() | Unresolved():
            yield from _discovered(event)
        case Pinged():
            yield from _pinged(event)
        case ConfigurationChanged():
            yield Metric("synapse.config.update")
        case WatcherStarted(service, several):
            yield Metric("synapse.watcher.start", ("start_result:success", f"watcher_name:{service}"))
            if several:
                yield Metric("synapse.watcher.multi.start")
        case WatcherStopped(service, several):
            yield Metric("synapse.watcher.stop", (*CLEAN, f"watcher_name:{service}"))
            if several:
                yield Metric("synapse.watcher.multi.stop")
        case WatcherChosen() | WatcherUnknown() | WeightsDrawn() | WeightsKept():
            yield from _resolved(event)
        case Retrying():
            yield Metric("synapse.retry", ("op:retry_after_sleep",))
        case Reloaded():
            yield Metric("synapse.haproxy.check_config", ("status:success",))
        case CandidateRefused():
            refused = Metric("synapse.haproxy.check_config", ("status:failure",))
            yield Metric("synapse.haproxy.reload_failed") if event.by == _RELOAD else refused
            yield Metric("synapse.config.update_failed", ("config_name:haproxy",))
        case _:
            yield from _of_the_process(event)


def _resolved(event: WatcherChosen | WatcherUnknown | WeightsDrawn | WeightsKept) -> Iterator[Metric]:
    match event:
        case WatcherChosen(_, watcher, _, "sequential"):
            yield Metric(f"{_RESOLVER}.sequential.switch", ("result:success", f"watcher:{watcher}"))
        case WatcherUnknown():
            yield Metric(f"{_RESOLVER}.s3_toggle.switch", ("result:unknown_watcher",))
        case WeightsDrawn(_, watcher):
            yield Metric(f"{_RESOLVER}.s3_toggle.switch", ("result:success", f"watcher:{watcher}"))
        case WeightsKept(_, ""):
            yield Metric(f"{_RESOLVER}.s3_toggle.switch", ("result:skip",))
        case WeightsKept(_, "zero_sum"):
            for reason in ("zero_sum", "no_choice"):
                yield Metric(f"{_RESOLVER}.s3_toggle.switch", ("result:fail", f"reason:{reason}"))
        case WeightsKept(_, fault):
            yield Metric(f"{_RESOLVER}.s3_toggle.fetch_failure", (f"reason:{fault}",))
            yield Metric(f"{_RESOLVER}.s3_toggle.switch", ("result:fail", "reason:nil_weights"))


def _pinged(event: Pinged) -> Iterator[Metric]:
    for services, result in ((event.answered, "ping_result:success"), (event.silent, "ping_result:failure")):
        for service in services:
            yield Metric("synapse.watcher.ping.count", (f"watcher_name:{service}", result, _VERSION), event.looks)


def _of_the_process(event: Event) -> Iterator[Metric]:
    match event:
        case SessionUsed(locator, fresh, service) if locator.scheme == "zookeeper":
            name = "created" if fresh else "reused"
            tags = (f"zk_cluster:{cluster(locator)}", f"service_name:{service}")
            yield Metric(f"synapse.watcher.zk.client.{name}", tags)
        case Expired(_, locator):
            tags = (f"zk_cluster:{cluster(locator)}", f"service_name:{event.user}")
            yield Metric("synapse.watcher.zk.session.expired", tags)
        case NodeUnread(_, child):
            yield Metric(f"synapse.watcher.zk.get_{'child' if child else 'config'}_failed")
        case ConfigurationUnusable():
            yield Metric("synapse.watcher.zk.get_config_failed")
        case Started():
            yield Metric("synapse.start")
        case Reconfigured():
            yield Metric("synapse.config.update")
        case AllAnswered(seconds):
            yield Metric("synapse.watchers.start.time", value=seconds * 1000, kind="ms")
        case Ended(seconds, error):
            yield Metric("synapse.main_loop.elapsed_time", value=seconds * 1000, kind="ms")
            yield Metric("synapse.stop", stop(error))


def _discovered(event: Discovered | Unresolved) -> Iterator[Metric]:
    if isinstance(event, Unresolved):
        yield Metric("synapse.watcher.dns.resolve_failed", (f"service_name:{event.service}",))
        return
    if event.locator.scheme != "zookeeper":
        return
    where, service = f"zk_cluster:{cluster(event.locator)}", f"service_name:{event.service}"
    path = f"zk_path:{event.path}"
    if event.polled:
        yield Metric("synapse.watcher.zookeeper_poll.discover")
    yield Metric("synapse.watcher.zk.discovery", (where, path, service))
    if event.seconds is not None:
        spent = event.seconds * 1000
        yield Metric("synapse.watcher.zk.discovery.elapsed_time", (where, path, service), spent, "ms")
        if not event.polled:
            yield Metric("synapse.watcher.zk.watch.elapsed_time", (where, path, service), spent, "ms")
            yield Metric("synapse.watcher.zk.connect.elapsed_time", (where, service), spent, "ms")
    for what, seconds in event.spent:
        yield Metric(f"synapse.watcher.zk.{what}.elapsed_time", (where, service), seconds * 1000, "ms")
    yield Metric("synapse.watcher.zk.children.bytes", (where, path), event.size, "g")
    if event.missing:
        yield Metric("synapse.watcher.zk.children.failed", (where, service))
        if not event.polled:
            yield Metric("synapse.watcher.zk.register_failed")
    for _ in range(event.faults):
        yield Metric("synapse.watcher.zk.parse_child_failed")
