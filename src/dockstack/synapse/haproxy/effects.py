"""What a step, or a reload, leaves behind in the running process. Pure.

The same functions keep the model of the process true after each acknowledged command and prove the planner right.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from dockstack.model import patched
from dockstack.synapse.haproxy.model import (
    Add,
    Admin,
    Capabilities,
    Cut,
    Delete,
    Document,
    Drain,
    Maintain,
    Ready,
    Running,
    RunningBackend,
    RunningServer,
    SetWeight,
    Step,
    Trust,
)
from dockstack.synapse.haproxy.server import is_disabled, weight


def loaded(document: Document, capabilities: Capabilities) -> Running:
    """A process that has just read this document: its servers in service, but for the disabled ones."""
    backends: dict[str, RunningBackend] = {}
    for stanza in document.stanzas.values():
        backend = stanza.backend
        servers = {
            one.name: RunningServer(
                server=one,
                admin=Admin.MAINT if is_disabled(one) else Admin.READY,
                weight=weight(one, backend.default_server),
            )
            for one in backend.servers
        }
        backends[backend.name] = RunningBackend(MappingProxyType(servers))
    return Running(capabilities, document, MappingProxyType(backends))


def after(running: Running, steps: Iterable[Step]) -> Running:
    """The process after these steps. A step for a server that is not there has no effect."""
    touched: dict[str, dict[str, RunningServer]] = {}
    for step in steps:
        servers = touched.get(step.backend)
        if servers is None:
            servers = touched[step.backend] = dict(running.backends.get(step.backend, RunningBackend()).servers)
        _apply(servers, step, running.capabilities)
    changed = {name: RunningBackend(MappingProxyType(servers)) for name, servers in touched.items()}
    return replace(running, backends=patched(running.backends, changed)) if changed else running


def _apply(servers: dict[str, RunningServer], step: Step, capabilities: Capabilities) -> None:
    server = servers.get(step.name)
    match step:
        case Add() if server is None:
            force = weight(step.server, step.inherited)
            servers[step.name] = RunningServer(step.server, weight=force, up=not step.waits)
        case Add() | Cut():
            pass
        case Delete():
            if server is not None and server.admin is Admin.MAINT:
                del servers[step.name]
        case _ if server is not None:
            servers[step.name] = _changed(server, step, capabilities)


def _changed(server: RunningServer, step: Step, capabilities: Capabilities) -> RunningServer:
    match step:
        case Ready():
            # One that was added with `init-state` waits for a check when it comes back, too; we may not know.
            return replace(server, admin=Admin.READY, up=not (step.checked and capabilities.init_state))
        case Trust():
            return replace(server, up=True)
        case Drain():
            return replace(server, admin=Admin.DRAIN)
        case Maintain():
            return replace(server, admin=Admin.MAINT)
        case SetWeight():
            return replace(server, weight=step.weight)
        case _:
            return server
