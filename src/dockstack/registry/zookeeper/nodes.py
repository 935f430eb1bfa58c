"""One registration's node on the server: finding what a lost answer left, taking over, deleting what is ours."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiozk import exc
from aiozk.protocol.children import GetChildrenRequest
from aiozk.protocol.create import CreateRequest
from aiozk.protocol.data import GetDataRequest, SetDataRequest
from aiozk.protocol.delete import DeleteRequest
from aiozk.protocol.exists import ExistsRequest
from aiozk.protocol.transaction import TransactionRequest

from dockstack.registry import NodeKind
from dockstack.registry.zookeeper.paths import ANYONE, join
from dockstack.registry.zookeeper.session import Session

_ANY_VERSION = -1
_SEQUENCE_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Draft:
    """A node as it is to be: `prefix` is its whole name, or what stands before the sequence number."""

    parent: str
    prefix: str
    data: bytes
    kind: NodeKind

    @property
    def place(self) -> tuple[str, str, NodeKind]:
        """What cannot be changed without another node."""
        return self.parent, self.prefix, self.kind


@dataclass(frozen=True, slots=True)
class Attempt:
    """A create that may have happened: what it would have made, the data it may have by now, and the newest
    transaction before it."""

    draft: Draft
    data: frozenset[bytes]
    zxid: int


@dataclass(frozen=True, slots=True)
class Node:
    """A node that we have written. `zxid` is the transaction of our last write to it, 0 where that is its creation."""

    path: str
    kind: NodeKind
    data: frozenset[bytes]
    zxid: int = 0


async def attempt(session: Session, draft: Draft) -> Attempt:
    """What must be known before a create, should its answer be lost. Raises as `Session.call` does.

    An ephemeral node is known by its owner. A persistent one has none, so the server is asked for its newest
    transaction: whatever is older is somebody else's.
    """
    if draft.kind is NodeKind.PERSISTENT_SEQUENTIAL:
        with suppress(exc.NoNode):  # that answer tells the transaction, too
            await session.call(ExistsRequest(path=draft.parent, watch=False))
    return Attempt(draft, frozenset({draft.data}), session.zxid)


async def create(session: Session, draft: Draft) -> Node:
    """Creates the node. Raises as `Session.call` does: NodeExists, NoNode where the parent is missing."""
    made = await session.call(_creation(draft, join(draft.parent, draft.prefix)))
    return Node(made.path, draft.kind, frozenset({draft.data}))


async def write(session: Session, path: str, draft: Draft) -> Node:
    """Gives an existing node the draft's data. Raises as `Session.call` does."""
    written = await session.call(SetDataRequest(path=path, data=draft.data, version=_ANY_VERSION))
    return Node(path, draft.kind, frozenset({draft.data}), written.stat.last_modified_zxid)


async def find(session: Session, attempt: Attempt, is_held: Callable[[str], bool]) -> str | None:
    """The path of the node that the attempt has made, or None.

    It is the attempt's when our session owns it (a persistent one: when it is newer than the attempt), its data are the
    attempt's, and no registration holds it: equal copies find one node each.
    """
    draft = attempt.draft
    try:
        listed = await session.call(GetChildrenRequest(path=draft.parent, watch=False))
    except exc.NoNode:
        return None
    paths = [join(draft.parent, name) for name in sorted(listed.children) if _is_name_of(draft, name)]
    paths = [path for path in paths if not is_held(path)]
    answers = await session.call_all([GetDataRequest(path=path, watch=False) for path in paths])
    for path, node in zip(paths, answers, strict=True):
        if isinstance(node, exc.NoNode):
            continue
        if isinstance(node, exc.ResponseError):
            raise node
        owner = node.stat.ephemeral_owner
        ours = owner == session.id if draft.kind.ephemeral else node.stat.created_zxid > attempt.zxid
        # Another copy may have found it while the answers were on their way.
        if ours and (node.data or b"") in attempt.data and not is_held(path):
            return path
    return None


async def take_over(session: Session, draft: Draft, was_lost: bool) -> Node | None:
    """Makes the existing node with the draft's name ours; None when it changed at the same moment.

    A node of another owner, or of another kind, is replaced by one transaction, so that it outlives that owner and is
    never absent. Whoever has lost the node to somebody else only writes: two that replace each other would do so for
    ever. Raises as `Session.call` does.
    """
    path = join(draft.parent, draft.prefix)
    try:
        node = await session.call(ExistsRequest(path=path, watch=False))
        if was_lost or node.stat.ephemeral_owner == (session.id if draft.kind.ephemeral else 0):
            return await write(session, path, draft)
    except exc.NoNode:
        return None
    replacement = TransactionRequest()
    replacement.add(DeleteRequest(path=path, version=node.stat.version))
    replacement.add(_creation(draft, path))
    answer = await session.call(replacement)
    for part in answer.responses:
        if isinstance(part, exc.BadVersion | exc.NoNode | exc.NodeExists):
            return None
        if isinstance(part, exc.ResponseError) and not isinstance(part, exc.RolledBack | exc.RuntimeInconsistency):
            raise part
    return Node(path, draft.kind, frozenset({draft.data}))


async def is_there(session: Session, node: Node) -> bool:
    """Whether the node exists and is still this registration's; leaves a watch on it. Raises as `Session.call` does.

    A non-sequential node that somebody else has taken over stays registered: its name is what counts.
    """
    try:
        found = await session.call(ExistsRequest(path=node.path, watch=True))
    except exc.NoNode:
        return False
    return node.kind is not NodeKind.EPHEMERAL_SEQUENTIAL or found.stat.ephemeral_owner == session.id


async def delete(session: Session, node: Node, is_wanted: Callable[[], bool]) -> None:
    """Deletes the node if it is still ours; what is gone, or somebody else's by now, is fine.

    Nobody else writes to a sequential node. Another ephemeral one is ours when our session owns it or our write was
    the last; a persistent one when its data are ours. `is_wanted` tells whether a registration of this process has
    taken the name meanwhile: then it stays. Raises as `Session.call` does.
    """
    version = _ANY_VERSION
    try:
        if not node.kind.sequential:
            found = await session.call(GetDataRequest(path=node.path, watch=False))
            if node.kind.ephemeral:
                ours = found.stat.ephemeral_owner == session.id or found.stat.last_modified_zxid == node.zxid
            else:
                ours = (found.data or b"") in node.data
            if not ours:
                return
            version = found.stat.version
        if is_wanted():
            return
        await session.call(DeleteRequest(path=node.path, version=version))
    except (exc.NoNode, exc.BadVersion):
        return


def _creation(draft: Draft, path: str) -> CreateRequest:
    request = CreateRequest(path=path, data=draft.data, acl=ANYONE)
    request.set_flags(ephemeral=draft.kind.ephemeral, sequential=draft.kind.sequential)
    return request


def _is_name_of(draft: Draft, name: str) -> bool:
    if not draft.kind.sequential:
        return name == draft.prefix
    number = name.removeprefix(draft.prefix)
    return name.startswith(draft.prefix) and len(number) >= _SEQUENCE_DIGITS and number.isdigit()
