"""Paths of nodes, and making what is missing of one, for readers and writers alike."""

from __future__ import annotations

from aiozk import exc
from aiozk.protocol.acl import UNRESTRICTED_ACCESS
from aiozk.protocol.create import CreateRequest

from dockstack.registry.url import fold
from dockstack.registry.zookeeper.session import Session

ANYONE = [UNRESTRICTED_ACCESS]
"""world:anyone may do all, as nerve's nodes have it."""


async def make(session: Session, path: str) -> None:
    """Makes the path and what is missing above it: persistent, empty nodes. Existing ones are fine.

    Raises as `Session.call` does, aiozk's NoAuth among it.
    """
    try:
        await session.call(CreateRequest(path=path, data=b"", acl=ANYONE, flags=0))
    except exc.NodeExists:
        return
    except exc.NoNode:
        if parent(path) == "/":
            raise
        await make(session, parent(path))
        await make(session, path)


def under(root: str, path: str) -> str:
    """The full path of a path below the chroot."""
    return fold(f"{root}/{path}")


def parent(path: str) -> str:
    """The path above; `/` for a node of the root."""
    return path.rpartition("/")[0] or "/"


def join(path: str, name: str) -> str:
    """The path of a child."""
    return f"{path}{name}" if path.endswith("/") else f"{path}/{name}"
