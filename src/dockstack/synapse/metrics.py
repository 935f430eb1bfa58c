"""What synapse's events are worth as metrics, by SmartStack's names and tags. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dockstack import __version__
from dockstack.events import Ended, Event, Reconfigured, Retrying, Started
from dockstack.registry.events import SessionUsed
from dockstack.registry.zookeeper.events import Expired
from dockstack.statsd import CLEAN, Metric, cluster, stop
from dockstack.synapse.events import (
    AllAnswered,
    CandidateRefused,
    ConfigurationChanged,
    Discovered,
    Pinged,
    Reloaded,
    WatcherChosen,
    WatcherStarted,
    WatcherStopped,
)

_VERSION = f"synapse_version:{__version__}"
_RELOAD = "the reload"


def metrics(event: Event) -> Iterator[Metric]:
    """The metrics of one event; none for many."""
    match event:
        case Discovered():
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
        case WatcherChosen(_, watcher):
            tags = ("result:success", f"watcher:{watcher}")
            yield Metric("synapse.watcher.multi.resolver.sequential.switch", tags)
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


def _pinged(event: Pinged) -> Iterator[Metric]:
    for services, result in ((event.answered, "ping_result:success"), (event.silent, "ping_result:failure")):
        for service in services:
            yield Metric("synapse.watcher.ping.count", (f"watcher_name:{service}", result, _VERSION), event.looks)


def _of_the_process(event: Event) -> Iterator[Metric]:
    match event:
        case SessionUsed(locator, fresh) if locator.scheme == "zookeeper":
            name = "created" if fresh else "reused"
            yield Metric(f"synapse.watcher.zk.client.{name}", (f"zk_cluster:{cluster(locator)}",))
        case Expired():
            yield Metric("synapse.watcher.zk.session.expired")
        case Started():
            yield Metric("synapse.start")
        case Reconfigured():
            yield Metric("synapse.config.update")
        case AllAnswered(seconds):
            yield Metric("synapse.watchers.start.time", value=seconds * 1000, kind="ms")
        case Ended(seconds, error):
            yield Metric("synapse.main_loop.elapsed_time", value=seconds * 1000, kind="ms")
            yield Metric("synapse.stop", stop(error))


def _discovered(event: Discovered) -> Iterator[Metric]:
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
    yield Metric("synapse.watcher.zk.children.bytes", (where, path), event.size, "g")
    for _ in range(event.faults):
        yield Metric("synapse.watcher.zk.parse_child_failed")
