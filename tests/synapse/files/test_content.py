from __future__ import annotations

import pytest

from dockstack.model import Entry, Instance
from dockstack.settings.synapse import SynapseService
from dockstack.synapse.files.content import content, same

OWN = SynapseService.model_validate({"discovery": {"method": "file", "directory": "/d", "path": "/a"}})


def test_the_bytes_of_a_file() -> None:
    entry = Entry((Instance("10.0.0.1", 3001, "a", 1, 3, "backup", '{"az":"é/1"}'), Instance("h", "80")))
    assert content(OWN, entry).decode() == (
        '[{"name":"a","host":"10.0.0.1","port":3001,"id":1,"weight":3,"haproxy_server_options":"backup",'
        '"labels":{"az":"é/1"}},'
        '{"name":null,"host":"h","port":"80","id":null,"weight":null,"haproxy_server_options":null,"labels":null}]'
    )
    assert content(OWN, Entry(())) == b"[]"


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"[]", b"[]", True),
        (b"[ ]\n", b"[]", True),
        (b'[{"a":1,"b":2}]', b'[{"b":2,"a":1}]', True),
        (b'[{"a":1},{"b":2}]', b'[{"b":2},{"a":1}]', False),
        (b"[1]", b"[true]", False),
        (b"[1]", b'["1"]', False),
        (b"[", b"[]", False),
        (b"\xff", b"[]", False),
        (None, b"[]", False),
    ],
)
def test_what_means_the_same(one: bytes | None, other: bytes, equal: bool) -> None:
    assert same(one, other) is equal
