"""Steps as lines of HAProxy's Runtime API, each with the only replies that count as success. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dockstack.synapse.haproxy.model import (
    Add,
    Capabilities,
    Cut,
    Delete,
    Drain,
    Maintain,
    Ready,
    SetWeight,
    Step,
    Trust,
)
from dockstack.synapse.haproxy.server import MAX_WEIGHT, meaning, named_id
from dockstack.synapse.haproxy.words import settings, split

# Words about resolving a name: idle on a server that has an address, and `add server` refuses them.
IDLE_WITH_AN_ADDRESS = frozenset({"resolvers", "init-addr", "resolve-prefer", "resolve-opts", "resolve-net"})
_LEFT_OUT = IDLE_WITH_AN_ADDRESS | {"enabled"}
_SIMPLE: Mapping[type[Step], str] = {
    Trust: "set server {} health up",
    Drain: "set server {} state drain",
    Maintain: "set server {} state maint",
    Cut: "shutdown sessions server {}",
}
_TOLD: Mapping[type[Step], str] = {
    Add: "{} joins",
    Ready: "{} is back in service",
    Trust: "{} serves before its first check",
    Drain: "{} drains",
    Maintain: "{} leaves",
    Cut: "the sessions of {} are closed",
    SetWeight: "{} has another weight",
    Delete: "{} is deleted",
}
_SEVERITY = re.compile(r"\[[0-7]\]:\s*")


@dataclass(frozen=True, slots=True)
class Command:
    """One line for the CLI, and the replies that mean that it was done; anything else is a failure.

    `replies` are exact texts without the severity prefix (`[6]: `) and surrounding white space; "" is the empty
    reply.
    """

    line: str
    replies: tuple[str, ...] = ("",)

    def accepts(self, reply: str) -> bool:
        """Whether this reply, as read from the socket, means success."""
        text = reply.strip()
        prefix = _SEVERITY.match(text)
        return (text[prefix.end() :] if prefix else text).strip() in self.replies


def commands(step: Step, capabilities: Capabilities) -> tuple[Command, ...]:
    """The lines that carry out a step, in order. When one is refused the rest of the step is void."""
    where = f"{step.backend}/{step.name}"
    match step:
        case Add():
            said = meaning(step.server, step.inherited)
            lines = [Command(_add(where, step, capabilities), ("New server registered.",))]
            lines += [Command(f"enable health {where}")] if said.checked else []
            lines += [Command(f"enable agent {where}")] if said.agent else []
            return (*lines, Command(f"enable server {where}"))
        case Ready():
            ready = Command(f"set server {where} state ready")
            return (Command(f"enable health {where}"), ready) if step.checked else (ready,)
        case SetWeight():
            return (Command(f"set server {where} weight {min(step.weight, MAX_WEIGHT)}"),)
        case Delete():
            return (Command(f"del server {where}", ("Server deleted.",)),)
        case Trust() | Drain() | Maintain() | Cut():
            return (Command(_SIMPLE[type(step)].format(where)),)


def told(step: Step) -> str:
    """The step as an operator reads it in the log."""
    return _TOLD[type(step)].format(step.name)


def _add(where: str, step: Add, capabilities: Capabilities) -> str:
    """One `add server` line. `default-server` options are not inherited by such a server: they are written out."""
    server = step.server
    words = [f"add server {where} {server.address}"]
    # The id is always named: HAProxy looks for a free one through the whole backend otherwise.
    if server.id is not None and named_id(server.options) is None:
        words.append(f"id {server.id}")
    if server.cookie is not None and step.cookie:
        words.append(f"cookie {server.cookie}")
    words.append(sent_options(server.options, step.inherited))
    if server.weight is not None:
        words.append(f"weight {min(server.weight, MAX_WEIGHT)}")
    if step.cautious and capabilities.init_state:
        words.append("init-state down")
    return " ".join(word for word in words if word)


def sent_options(options: str, inherited: str) -> str:
    """What `add server` is given of a server's options, behind those of `default-server`."""
    return " ".join(" ".join(one) for one in settings(split(f"{inherited} {options}")) if one[0] not in _LEFT_OUT)
