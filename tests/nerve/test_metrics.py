"""Every metric of nerve: from which event, with which tags."""

from __future__ import annotations

import pytest

from dockstack import __version__
from dockstack.events import Ended, Event, Note, Reconfigured, Started
from dockstack.model import Address
from dockstack.nerve.events import (
    Checked,
    Down,
    Launched,
    Reaped,
    Renewed,
    Reporting,
    StillThrottled,
    Stopped,
    Throttled,
    Up,
    Written,
)
from dockstack.nerve.metrics import metrics
from dockstack.registry import Locator
from dockstack.registry.events import SessionUsed
from dockstack.statsd import line

ZK = Locator("zookeeper", (Address("zk2.example.com", 2181), Address("zk1.example.com", 2181)))
CLEAN = "stop_avenue:clean,stop_location:main_loop"

TABLE: list[tuple[Event, list[str]]] = [
    (Started(), ["nerve.start:1|c", "nerve.config.update:1|c"]),
    (Reconfigured(), ["nerve.config.update:1|c"]),
    (Ended(1.5), ["nerve.main_loop.elapsed_time:1500|ms", f"nerve.stop:1|c|#{CLEAN}"]),
    (
        Ended(1.5, ValueError("bad, very")),
        [
            "nerve.main_loop.elapsed_time:1500|ms",
            "nerve.stop:1|c|#stop_avenue:abort,stop_location:main_loop,exception_name:ValueError,"
            "exception_message:bad_ very",
        ],
    ),
    (
        Launched("web", "new"),
        ["nerve.watcher.launch:1|c|#launch_reason:new,watcher_name:web", "nerve.watcher.start:1|c|#service_name:web"],
    ),
    (
        Launched("web", "update"),
        [
            "nerve.watcher.launch:1|c|#launch_reason:update,watcher_name:web",
            "nerve.watcher.start:1|c|#service_name:web",
        ],
    ),
    (
        Reaped("web", "old"),
        [
            "nerve.watcher.reap:1|c|#reap_reason:old,reap_result:success,watcher_name:web",
            f"nerve.watcher.stop:1|c|#{CLEAN},service_name:web",
        ],
    ),
    (
        Reaped("web", "update"),
        [
            "nerve.watcher.reap:1|c|#reap_reason:update,reap_result:success,watcher_name:web",
            f"nerve.watcher.stop:1|c|#{CLEAN},service_name:web",
        ],
    ),
    (Stopped("web"), [f"nerve.watcher.stop:1|c|#{CLEAN},service_name:web"]),
    (Throttled("web", shadow=True), ["nerve.watcher.throttled:1|c|#service_name:web,shadow_mode:true"]),
    (StillThrottled("web", shadow=False), ["nerve.watcher.throttled:1|c|#service_name:web,shadow_mode:false"]),
    (
        Checked("web", (("web tcp-h:80", True), ("http-h:80/x", False)), registry=True),
        [
            f"nerve.watcher.status.ping.count:1|c|#ping_result:success,service_name:web,nerve_version:{__version__}",
            "nerve.watcher.status.service_check:1|c|#check_result:up,service_name:web,check_name:web tcp-h:80",
            "nerve.watcher.status.service_check:1|c|#check_result:down,service_name:web,check_name:http-h:80/x",
        ],
    ),
    (
        Checked("web", (), registry=False),
        [f"nerve.watcher.status.ping.count:1|c|#ping_result:fail,service_name:web,nerve_version:{__version__}"],
    ),
    (Up("web"), ["nerve.watcher.status.transition:1|c|#new_status:up,service_name:web"]),
    (Down("web", "c", "no"), ["nerve.watcher.status.transition:1|c|#new_status:down,service_name:web"]),
    (Reporting("web", done=True), ["nerve.watcher.status.report.count:1|c|#report_result:success,service_name:web"]),
    (Reporting("web", done=False), ["nerve.watcher.status.report.count:1|c|#report_result:fail,service_name:web"]),
    (SessionUsed(ZK, fresh=True), ["nerve.reporter.zk.client.created:1|c|#zk_cluster:zk"]),
    (SessionUsed(ZK, fresh=False), ["nerve.reporter.zk.client.reused:1|c|#zk_cluster:zk"]),
    (
        Written(ZK, "/nerve/web", "create", 0.0025, 128),
        [
            "nerve.reporter.zk.create.elapsed_time:2.5|ms|#zk_cluster:zk,zk_path:/nerve/web",
            "nerve.reporter.zk.child.bytes:128|g|#zk_cluster:zk,zk_path:/nerve/web",
        ],
    ),
    (Written(ZK, "/nerve/web", "save", 0.001), ["nerve.reporter.zk.save.elapsed_time:1|ms|#zk_cluster:zk"]),
    (Written(ZK, "/nerve/web", "delete", 0.001), ["nerve.reporter.zk.delete.elapsed_time:1|ms|#zk_cluster:zk"]),
    (Renewed(ZK, "/nerve/web", done=True), ["nerve.reporter.zk.ttl.renew:1|c|#zk_cluster:zk,result:success"]),
    (
        Renewed(ZK, "/nerve/web", done=False),
        ["nerve.reporter.zk.ttl.renew:1|c|#zk_cluster:zk,result:fail,reason:connection_error"],
    ),
    (SessionUsed(Locator("file", root="/x"), fresh=True), []),
    (Written(Locator("file", root="/x"), "/nerve/web", "create", 0.1), []),
    (Note("nothing to count"), []),
]


@pytest.mark.parametrize(("event", "lines"), TABLE, ids=[type(event).__name__ for event, _ in TABLE])
def test_what_an_event_is_worth(event: Event, lines: list[str]) -> None:
    assert [line(metric) for metric in metrics(event)] == lines
