"""The text of the file, and its mark."""

from __future__ import annotations

from dataclasses import replace

from dockstack.synapse.haproxy.model import Document, Section
from dockstack.synapse.haproxy.render import MARK_LINE, mark, render
from dockstack.synapse.haproxy.server import read
from tests.synapse.haproxy.worlds import document, server, stanza

A, B = server("a", 1), server("b", 2)
SHARED = (Section("frontend shared-frontend", ("bind :1",)),)

WHOLE = """\
# written by dockstack synapse: a change made here by hand is lost
global
	maxconn 100
	setenv DOCKSTACK_MARK {mark}
defaults
	mode http
	timeout connect 5s

# service one
frontend one
	bind 127.0.0.1:1000
	default_backend one

backend one
	mode http
	server a 10.0.0.1:80 id 1 check
	server b 10.0.0.1:80 id 2 check

# service two
frontend two
	bind 127.0.0.1:1000
	default_backend two

backend two
	server own 10.0.0.9:1
	# discovered
	server a 10.0.0.1:80 id 1 check

# shared by the services
frontend shared-frontend
	bind :1
"""


def whole() -> Document:
    return document(stanza("one", [A, B]), stanza("two", [A], ("server own 10.0.0.9:1",)), tail=SHARED)


def test_the_whole_file() -> None:
    assert render(whole()).text == WHOLE.format(mark=mark(whole()))


def test_without_the_mark() -> None:
    assert MARK_LINE not in render(whole(), marked=False).text
    assert render(whole(), marked=False).mark == render(whole()).mark


def test_extra_sections_stand_apart() -> None:
    found = Document((Section("global"), Section("defaults", ("mode http",)), Section("peers p", ("peer x :1",))))
    assert "defaults\n\tmode http\n\npeers p\n\tpeer x :1\n" in render(found).text


def test_a_change_in_one_service_renders_that_stanza_only() -> None:
    first = render(whole())
    changed = whole().with_stanzas(stanza("one", [A]))
    changed = replace(first.document, stanzas={**first.document.stanzas, "one": changed.stanzas["one"]})
    second = render(changed, first)
    assert second.pages["two"] is first.pages["two"]
    assert second.top is first.top
    assert second.text == render(changed).text != first.text


def test_a_service_that_is_gone_leaves_no_page() -> None:
    first = render(whole())
    less = replace(first.document, stanzas={"one": first.document.stanzas["one"]})
    assert render(less, first).text == render(less).text
    assert "two" not in render(less, first).text


def test_the_mark_is_that_of_everything_but_the_servers() -> None:
    base = mark(whole())
    one, two = whole().stanzas.values()
    same = [
        document(stanza("one", [B]), two, tail=SHARED),
        document(stanza("one", [read("server x 10.0.0.3:9 disabled")]), two, tail=SHARED),
        document(two, one, tail=SHARED),
    ]
    other = [
        document(one, two),
        document(one, tail=SHARED),
        document(one, two, tail=SHARED, defaults=("mode tcp",)),
        document(stanza("one", [A, B], ("mode tcp",)), two, tail=SHARED),
        document(stanza("one", [A, B], port=1), two, tail=SHARED),
        document(one, stanza("two", [A], ("server own 10.0.0.8:1",)), tail=SHARED),
    ]
    assert [render(each, render(whole())).mark for each in (*same, *other)] == [mark(each) for each in (*same, *other)]
    assert {mark(each) for each in same} == {base}
    assert base not in {mark(each) for each in other}
    assert len({mark(each) for each in other}) == len(other)


def test_a_document_grows_by_a_stanza_at_the_end() -> None:
    grown = whole().with_stanzas(stanza("three"), stanza("one"))
    assert [*grown.stanzas] == ["one", "two", "three"]
    assert grown.stanzas["one"].backend.servers == ()
