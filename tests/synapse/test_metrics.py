"""Every metric of synapse: from which event, with which tags."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dockstack import __version__
from dockstack.events import Ended, Event, Note, Reconfigured, Retrying, Started
from dockstack.model import Address
from dockstack.registry import Locator
from dockstack.registry.events import NodeUnread, SessionUsed
from dockstack.registry.zookeeper.events import Expired
from dockstack.statsd import line
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
from dockstack.synapse.metrics import metrics

ZK = Locator("zookeeper", (Address("zk1.example.com", 2181),))
READ = Discovered(ZK, "/web", 0.0025, 30, 1, spent=(("create_path", 0.0005), ("children", 0.001)), service="web")
AT = "#zk_cluster:zk,zk_path:/web,service_name:web"
ONE = "#zk_cluster:zk,service_name:web"
TOGGLE = "synapse.watcher.multi.resolver.s3_toggle"
CLEAN = "stop_avenue:clean,stop_location:main_loop"

TABLE: list[tuple[Event, list[str]]] = [
    (Started(), ["synapse.start:1|c"]),
    (Ended(2.0), ["synapse.main_loop.elapsed_time:2000|ms", f"synapse.stop:1|c|#{CLEAN}"]),
    (
        Ended(2.0, OSError("x")),
        [
            "synapse.main_loop.elapsed_time:2000|ms",
            "synapse.stop:1|c|#stop_avenue:abort,stop_location:main_loop,exception_name:OSError,exception_message:x",
        ],
    ),
    (Reconfigured(), ["synapse.config.update:1|c"]),
    (ConfigurationChanged(), ["synapse.config.update:1|c"]),
    (AllAnswered(0.25, 3), ["synapse.watchers.start.time:250|ms"]),
    (Retrying("reading", "no", 0.1), ["synapse.retry:1|c|#op:retry_after_sleep"]),
    (WatcherStarted("web", several=False), ["synapse.watcher.start:1|c|#start_result:success,watcher_name:web"]),
    (
        WatcherStarted("web", several=True),
        ["synapse.watcher.start:1|c|#start_result:success,watcher_name:web", "synapse.watcher.multi.start:1|c"],
    ),
    (WatcherStopped("web", several=False), [f"synapse.watcher.stop:1|c|#{CLEAN},watcher_name:web"]),
    (
        WatcherStopped("web", several=True),
        [f"synapse.watcher.stop:1|c|#{CLEAN},watcher_name:web", "synapse.watcher.multi.stop:1|c"],
    ),
    (
        Unresolved("web.example.com", "A", "SERVFAIL", "web"),
        ["synapse.watcher.dns.resolve_failed:1|c|#service_name:web"],
    ),
    (
        Pinged(("web",), (), 10),
        [f"synapse.watcher.ping.count:10|c|#watcher_name:web,ping_result:success,synapse_version:{__version__}"],
    ),
    (
        Pinged((), ("web",), 1),
        [f"synapse.watcher.ping.count:1|c|#watcher_name:web,ping_result:failure,synapse_version:{__version__}"],
    ),
    (
        WatcherChosen("web", "west", 3, "sequential"),
        ["synapse.watcher.multi.resolver.sequential.switch:1|c|#result:success,watcher:west"],
    ),
    (WatcherChosen("web", "west", 3, "s3_toggle"), []),
    (Reloaded(("new frontend",), 0.1, 7), ["synapse.haproxy.check_config:1|c|#status:success"]),
    (
        CandidateRefused("HAProxy", (), serving=True),
        ["synapse.haproxy.check_config:1|c|#status:failure", "synapse.config.update_failed:1|c|#config_name:haproxy"],
    ),
    (
        CandidateRefused("the reload", (), serving=True),
        ["synapse.haproxy.reload_failed:1|c", "synapse.config.update_failed:1|c|#config_name:haproxy"],
    ),
    (SessionUsed(ZK, True, "web"), ["synapse.watcher.zk.client.created:1|c|#zk_cluster:zk,service_name:web"]),
    (SessionUsed(ZK, False, "web"), ["synapse.watcher.zk.client.reused:1|c|#zk_cluster:zk,service_name:web"]),
    (Expired(1, ZK, user="web"), [f"synapse.watcher.zk.session.expired:1|c|{ONE}"]),
    (NodeUnread("/web", child=True), ["synapse.watcher.zk.get_child_failed:1|c"]),
    (NodeUnread("/web", child=False), ["synapse.watcher.zk.get_config_failed:1|c"]),
    (ConfigurationUnusable("web"), ["synapse.watcher.zk.get_config_failed:1|c"]),
    (WatcherUnknown("web", "east"), [f"{TOGGLE}.switch:1|c|#result:unknown_watcher"]),
    (WeightsDrawn("s3://b/k", "west"), [f"{TOGGLE}.switch:1|c|#result:success,watcher:west"]),
    (WeightsKept("s3://b/k", ""), [f"{TOGGLE}.switch:1|c|#result:skip"]),
    (
        WeightsKept("s3://b/k", "zero_sum"),
        [f"{TOGGLE}.switch:1|c|#result:fail,reason:zero_sum", f"{TOGGLE}.switch:1|c|#result:fail,reason:no_choice"],
    ),
    (
        WeightsKept("s3://b/k", "parse_error"),
        [
            f"{TOGGLE}.fetch_failure:1|c|#reason:parse_error",
            f"{TOGGLE}.switch:1|c|#result:fail,reason:nil_weights",
        ],
    ),
    (
        READ,
        [
            f"synapse.watcher.zk.discovery:1|c|{AT}",
            f"synapse.watcher.zk.discovery.elapsed_time:2.5|ms|{AT}",
            f"synapse.watcher.zk.watch.elapsed_time:2.5|ms|{AT}",
            f"synapse.watcher.zk.connect.elapsed_time:2.5|ms|{ONE}",
            f"synapse.watcher.zk.create_path.elapsed_time:0.5|ms|{ONE}",
            f"synapse.watcher.zk.children.elapsed_time:1|ms|{ONE}",
            "synapse.watcher.zk.children.bytes:30|g|#zk_cluster:zk,zk_path:/web",
            "synapse.watcher.zk.parse_child_failed:1|c",
        ],
    ),
    (
        replace(READ, seconds=None, faults=0, spent=()),
        [
            f"synapse.watcher.zk.discovery:1|c|{AT}",
            "synapse.watcher.zk.children.bytes:30|g|#zk_cluster:zk,zk_path:/web",
        ],
    ),
    (
        replace(READ, polled=True, faults=0, spent=(("get", 0.0025),)),
        [
            "synapse.watcher.zookeeper_poll.discover:1|c",
            f"synapse.watcher.zk.discovery:1|c|{AT}",
            f"synapse.watcher.zk.discovery.elapsed_time:2.5|ms|{AT}",
            f"synapse.watcher.zk.get.elapsed_time:2.5|ms|{ONE}",
            "synapse.watcher.zk.children.bytes:30|g|#zk_cluster:zk,zk_path:/web",
        ],
    ),
    (
        replace(READ, seconds=None, faults=0, spent=(), missing=True),
        [
            f"synapse.watcher.zk.discovery:1|c|{AT}",
            "synapse.watcher.zk.children.bytes:30|g|#zk_cluster:zk,zk_path:/web",
            f"synapse.watcher.zk.children.failed:1|c|{ONE}",
            "synapse.watcher.zk.register_failed:1|c",
        ],
    ),
    (
        replace(READ, seconds=None, faults=0, spent=(), missing=True, polled=True),
        [
            "synapse.watcher.zookeeper_poll.discover:1|c",
            f"synapse.watcher.zk.discovery:1|c|{AT}",
            "synapse.watcher.zk.children.bytes:30|g|#zk_cluster:zk,zk_path:/web",
            f"synapse.watcher.zk.children.failed:1|c|{ONE}",
        ],
    ),
    (replace(READ, locator=Locator("file", root="/x")), []),
    (Note("nothing to count"), []),
]


@pytest.mark.parametrize(("event", "lines"), TABLE, ids=[type(event).__name__ for event, _ in TABLE])
def test_what_an_event_is_worth(event: Event, lines: list[str]) -> None:
    assert [line(metric) for metric in metrics(event)] == lines
