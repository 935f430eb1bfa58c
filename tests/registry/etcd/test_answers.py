from __future__ import annotations

import json

import pytest

from dockstack.errors import RegistryUnavailable
from dockstack.registry.etcd.answers import Refused, answer_of, message, ranges, refusal

WHERE = "10.0.0.1:2379"


@pytest.mark.parametrize(
    ("content", "status", "code", "elsewhere"),
    [
        ({"error": "etcdserver: no leader", "message": "etcdserver: no leader", "code": 14}, 503, 14, True),
        ({"code": 14, "message": "etcdserver: no leader", "details": []}, 503, 14, True),
        ({"error": {"grpc_code": 14, "http_code": 503, "message": "etcdserver: no leader"}}, 503, 14, True),
        ({"error": {"code": 14, "message": "etcdserver: no leader"}}, 503, 14, True),
        ({"error": {"code": 14, "message": "etcdserver: no leader"}}, 200, 14, True),
        ({"error": "denied", "message": "etcdserver: permission denied", "code": 7}, 403, 7, False),
        ({"error": {"code": 5, "message": "etcdserver: requested lease not found"}}, 404, 5, False),
        ({"error": "bad gateway"}, 502, 14, True),
        ({"code": None, "message": "?"}, 500, 14, True),
        ([1], 500, 14, True),
        ("<html>Bad Gateway</html>", 502, 14, True),
        ("404 page not found", 404, 14, True),
        ("Client sent an HTTP request to an HTTPS server.", 400, 14, True),
        ("", 503, 14, True),
    ],
)
def test_refusals_in_all_their_forms(content: object, status: int, code: int, elsewhere: bool) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    refused = refusal(WHERE, status, text.encode())
    assert (refused.code, refused.elsewhere) == (code, elsewhere)
    assert WHERE in str(refused)
    assert not isinstance(content, dict) or "etcdserver" not in text or "etcdserver" in str(refused)


@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        (7, "etcdserver: permission denied", "the right to read the path"),
        (3, "etcdserver: authentication failed, invalid user ID or password", "correct the user"),
        (3, "etcdserver: user name is empty", "wants a user"),
        (14, "HTTP status 400: Client sent an HTTP request to an HTTPS server.", "etcds://"),
        (14, "HTTP status 404: 404 page not found", "3.4 or newer"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, said: str, advice: str) -> None:
    assert advice in str(Refused(WHERE, code, said))


@pytest.mark.parametrize(
    ("code", "said", "stale"),
    [
        (16, "etcdserver: invalid auth token", True),
        (3, "etcdserver: user name is empty", True),
        (3, "etcdserver: revision of auth store is old", True),
        (3, "etcdserver: authentication failed, invalid user ID or password", False),
        (7, "etcdserver: permission denied", False),
    ],
)
def test_whether_the_token_is_to_blame(code: int, said: str, stale: bool) -> None:
    assert Refused(WHERE, code, said).stale is stale


def test_a_message_of_a_stream() -> None:
    assert message(WHERE, b'{"result":{"created":true}}') == {"created": True}
    assert message(WHERE, b'{"result":null}') == {}
    with pytest.raises(Refused):
        message(WHERE, b'{"error":{"code":14,"message":"etcdserver: no leader"}}')


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"null", b"7", b"{}", b"\xff"])
def test_what_is_no_answer(content: bytes) -> None:
    with pytest.raises(RegistryUnavailable, match="no answer of etcd's"):
        answer_of(WHERE, content)


def test_the_ranges_of_a_transaction() -> None:
    responses = [{"response_range": {"kvs": [1]}}, {"response_range": {}}]
    assert ranges({"header": {}, "responses": responses}, 2) == [{"kvs": [1]}, {}]


@pytest.mark.parametrize(
    "responses",
    [
        None,
        [],
        "",
        [{"response_range": {}}],
        [{}, {}],
        [{"response_range": {}}, {"response_put": {}}],
        [{"response_range": {}}, {"response_range": []}],
        [{"response_range": {}}] * 3,
        [{"response_range": {}}, None],
    ],
)
def test_a_range_without_an_answer_is_not_an_empty_one(responses: object) -> None:
    with pytest.raises(RegistryUnavailable, match="does a proxy before it"):
        ranges({"header": {}, "responses": responses}, 2)
    with pytest.raises(RegistryUnavailable):
        ranges({"header": {}}, 2)
