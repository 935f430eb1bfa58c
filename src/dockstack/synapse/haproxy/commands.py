"""Steps as lines of HAProxy's Runtime API, each with the only replies that count as success. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from dockstack.synapse.haproxy.model import Capabilities, Step


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
        raise NotImplementedError


def commands(step: Step, capabilities: Capabilities) -> tuple[Command, ...]:
    """The lines that carry out a step, in order. When one is refused the rest of the step is void."""
    raise NotImplementedError
