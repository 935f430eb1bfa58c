"""What nerve's events are worth as metrics, by SmartStack's names and tags. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dockstack import __version__
from dockstack.events import Ended, Event, Reconfigured, Started
from dockstack.nerve.events import (
    Checked,
    Down,
    Launched,
    Reaped,
    Renewed,
    Reporting,
    Stopped,
    Throttled,
    Up,
    Written,
)
from dockstack.registry.events import SessionUsed
from dockstack.statsd import CLEAN, Metric, cluster, stop

_VERSION = f"nerve_version:{__version__}"


def metrics(event: Event) -> Iterator[Metric]:
    """The metrics of one event; none for many."""
    match event:
        case Checked():
            yield from _checked(event)
        case Up() | Down():
            status = f"new_status:{'up' if isinstance(event, Up) else 'down'}"
            yield Metric("nerve.watcher.status.transition", (status, f"service_name:{event.service}"))
        case Reporting(service, done):
            result = f"report_result:{'success' if done else 'fail'}"
            yield Metric("nerve.watcher.status.report.count", (result, f"service_name:{service}"))
        case Throttled(service, shadow):
            yield Metric("nerve.watcher.throttled", (f"service_name:{service}", f"shadow_mode:{str(shadow).lower()}"))
        case Written() | Renewed():
            yield from _written(event)
        case Launched(service, reason):
            yield Metric("nerve.watcher.launch", (f"launch_reason:{reason}", f"watcher_name:{service}"))
            yield Metric("nerve.watcher.start", (f"service_name:{service}",))
        case Reaped(service, reason):
            tags = (f"reap_reason:{reason}", "reap_result:success", f"watcher_name:{service}")
            yield Metric("nerve.watcher.reap", tags)
            yield Metric("nerve.watcher.stop", (*CLEAN, f"service_name:{service}"))
        case Stopped(service):
            yield Metric("nerve.watcher.stop", (*CLEAN, f"service_name:{service}"))
        case SessionUsed(locator, fresh) if locator.scheme == "zookeeper":
            name = "created" if fresh else "reused"
            yield Metric(f"nerve.reporter.zk.client.{name}", (f"zk_cluster:{cluster(locator)}",))
        case Started():
            yield Metric("nerve.start")
            yield Metric("nerve.config.update")
        case Reconfigured():
            yield Metric("nerve.config.update")
        case Ended(seconds, error):
            yield Metric("nerve.main_loop.elapsed_time", value=seconds * 1000, kind="ms")
            yield Metric("nerve.stop", stop(error))


def _checked(event: Checked) -> Iterator[Metric]:
    service = f"service_name:{event.service}"
    ping = f"ping_result:{'success' if event.registry else 'fail'}"
    yield Metric("nerve.watcher.status.ping.count", (ping, service, _VERSION))
    for name, healthy in event.results:
        tags = (f"check_result:{'up' if healthy else 'down'}", service, f"check_name:{name}")
        yield Metric("nerve.watcher.status.service_check", tags)


def _written(event: Written | Renewed) -> Iterator[Metric]:
    if event.locator.scheme != "zookeeper":
        return
    where, path = f"zk_cluster:{cluster(event.locator)}", f"zk_path:{event.path}"
    if isinstance(event, Renewed):
        result = ("result:success",) if event.done else ("result:fail", "reason:connection_error")
        yield Metric("nerve.reporter.zk.ttl.renew", (where, *result))
        return
    tags = (where, path) if event.how == "create" else (where,)
    yield Metric(f"nerve.reporter.zk.{event.how}.elapsed_time", tags, event.seconds * 1000, "ms")
    if event.encoded is not None:
        yield Metric("nerve.reporter.zk.child.bytes", (where, path), event.encoded, "g")
