"""Frames, replies and errors, without a server."""

from __future__ import annotations

import contextlib
import struct

import pytest
from aiozk import exc
from aiozk.protocol.create import CreateRequest
from aiozk.protocol.watches import WatchEvent
from hypothesis import given
from hypothesis import strategies as st

from dockstack.registry.zookeeper.wire import (
    MAX_FRAME,
    Frames,
    Reply,
    ServerRefused,
    event,
    failure,
    frame,
    reply,
    response,
    unwatch,
    watch_below,
    welcome,
    words,
)


@given(bodies=st.lists(st.binary(max_size=200), max_size=20), cuts=st.lists(st.integers(1, 50), min_size=1))
def test_frames_come_out_whole_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, bodies))
    frames, taken, at, turn = Frames(), list[bytes](), 0, 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        taken += frames.feed(stream[at : at + step])
        at, turn = at + step, turn + 1
    assert taken == bodies


@given(body=st.binary(min_size=1, max_size=50), missing=st.integers(1, 50))
def test_a_frame_that_has_not_all_come_is_not_given(body: bytes, missing: int) -> None:
    whole = frame(body)
    frames = Frames()
    first = whole[: max(0, len(whole) - missing)]
    assert frames.feed(first) == []
    assert frames.feed(whole[len(first) :]) == [body]


@pytest.mark.parametrize("size", [-1, -(2**31), MAX_FRAME + 1, 2**31 - 1, struct.unpack("!i", b"HTTP")[0]])
def test_a_size_that_no_server_sends_is_refused_at_once(size: int) -> None:
    with pytest.raises(ValueError, match=f"a frame of {size} bytes"):
        Frames().feed(struct.pack("!i", size))


def test_a_replys_header_is_taken_off() -> None:
    assert reply(struct.pack("!iqi", 7, 2**40, -101) + b"rest") == Reply(7, 2**40, -101, b"rest")


@pytest.mark.parametrize("length", [0, 4, 15])
def test_a_reply_shorter_than_its_header_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="shorter than its header"):
        reply(bytes(length))


@pytest.mark.parametrize(
    ("number", "kind"),
    [(-101, exc.NoNode), (-110, exc.NodeExists), (-6, exc.Unimplemented), (-115, exc.AuthFailed), (-102, exc.NoAuth)],
)
def test_error_numbers_are_aiozks_exceptions(number: int, kind: type[exc.ResponseError]) -> None:
    assert isinstance(failure(number), kind)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (-102, "NoAuth: the ACL does not let this user; give "),
        (-108, "NoChildrenForEphemerals: a part of the path "),
        (-125, "error -125: the path's quota is exceeded"),
        (-127, "error -127"),
    ],
)
def test_a_refusal_says_what_to_do_where_that_is_known(number: int, text: str) -> None:
    assert words(failure(number)).startswith(text)


@pytest.mark.parametrize("number", [-125, -127, 5])
def test_an_error_that_aiozk_does_not_know_is_a_refusal_with_its_number(number: int) -> None:
    error = failure(number)
    assert isinstance(error, ServerRefused)
    assert isinstance(error, exc.ResponseError)
    assert str(error) == f"error {number}"


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        (1, b""),
        (1, struct.pack("!i", 50) + b"/short"),
        (1, struct.pack("!i", 2) + b"\xff\xfe"),
        (1, struct.pack("!i", -7)),
        (4, struct.pack("!i", 3) + b"abc"),
        (8, struct.pack("!i", 1000) + b"xx"),
        (14, struct.pack("!ibi", 99, 0, 0)),
        (14, b"\0"),
    ],
)
def test_an_answer_that_cannot_be_read_is_a_value_error(opcode: int, payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"cannot be read|codec can't decode"):
        response(opcode, payload)


@given(opcode=st.sampled_from([1, 3, 4, 5, 8, 14]), payload=st.binary(max_size=100))
def test_no_answer_raises_anything_but_a_value_error(opcode: int, payload: bytes) -> None:
    with contextlib.suppress(ValueError):
        response(opcode, payload)


def test_an_answer_that_is_its_header_alone_has_no_response() -> None:
    assert response(watch_below("/a").opcode, b"") is None


def test_an_event_is_read() -> None:
    told = event(struct.pack("!iii", WatchEvent.DELETED, 3, 2) + b"/a")
    assert (told.type, told.path) == (WatchEvent.DELETED, "/a")


@pytest.mark.parametrize("payload", [b"", struct.pack("!iii", 1, 3, -1), struct.pack("!iii", 1, 3, 9) + b"/a"])
def test_an_event_that_cannot_be_read_is_a_value_error(payload: bytes) -> None:
    with pytest.raises(ValueError, match="watch event"):
        event(payload)


def test_a_handshakes_answer_is_read_also_from_servers_that_add_read_only() -> None:
    words = struct.pack("!iiqi16s", 0, 4000, 0x1234, 16, b"secret")
    assert welcome(words).session_id == welcome(words + b"\0").session_id == 0x1234


def test_a_handshakes_answer_that_is_none_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="handshake"):
        welcome(b"HTTP/1.1 400")


def test_requests_that_aiozk_lacks_are_as_the_protocol_has_them() -> None:
    assert watch_below("/a").serialize(xid=5) == struct.pack("!iii2si", 5, 106, 2, b"/a", 1)
    assert unwatch("/a").serialize(xid=5) == struct.pack("!iii2si", 5, 18, 2, b"/a", 3)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=50))
def test_a_path_outside_ascii_goes_as_utf8(path: str) -> None:
    raw = path.encode()
    assert struct.pack("!i", len(raw)) + raw in CreateRequest(path=path, data=b"", acl=[], flags=0).serialize(xid=1)
