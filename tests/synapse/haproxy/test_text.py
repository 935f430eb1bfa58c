"""A rendered file, read back."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockstack.model import Address
from dockstack.synapse.haproxy import meaning
from dockstack.synapse.haproxy.model import Document, Section, Stanza
from dockstack.synapse.haproxy.render import render
from dockstack.synapse.haproxy.server import make
from dockstack.synapse.haproxy.text import parse
from tests.synapse.haproxy.worlds import LINES, servers

WORDS = st.sampled_from(["acl", "x", "mode http", "server s 10.0.0.1:1", '"a  b"', "# late", "backend", "é", "a\tb"])
OTHER_LINES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join).filter(lambda one: not one.startswith("#"))
NAMES = st.text("abc._-:", min_size=1, max_size=6)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    def some(strategy: st.SearchStrategy[str]) -> tuple[str, ...]:
        return tuple(draw(st.lists(strategy, max_size=4)))

    head = [Section("global", some(OTHER_LINES)), Section("defaults", some(OTHER_LINES))]
    head += [Section(f"backend x{number}", some(OTHER_LINES)) for number in range(draw(st.integers(0, 2)))]
    defaults = meaning.defaults_of(head)
    stanzas = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        frontend = Section(f"frontend {name}", some(OTHER_LINES)) if draw(st.booleans()) else None
        lines = draw(st.one_of(st.sampled_from(LINES), st.lists(OTHER_LINES, max_size=3).map(tuple)))
        title = draw(st.sampled_from((name, "other")))
        stanzas[name] = Stanza(name, frontend, meaning.backend(title, lines, draw(servers()), defaults))
    tail = (Section("frontend shared-frontend", some(OTHER_LINES)),) if draw(st.booleans()) else ()
    return Document(tuple(head), MappingProxyType(stanzas), tail)


@settings(max_examples=300, deadline=None)
@given(documents(), st.booleans())
def test_what_was_rendered_is_read_back(document: Document, marked: bool) -> None:
    text = render(document, marked=marked).text
    assert parse(text) == document
    assert render(parse(text), marked=marked).text == text
    assert text.endswith("\n")


def test_a_word_may_end_with_an_escaped_space() -> None:
    made = make("a", Address("127.0.0.1", 1), ("check", "sni", "\\ "))
    document = Document((), MappingProxyType({"web": Stanza("web", None, meaning.backend("web", (), (made,), ()))}))
    assert parse(render(document).text) == document


@pytest.mark.parametrize(
    "text",
    [
        "\tmode http\nglobal\n",
        "global\n\n# service a\nfrontend a\n\tmode http\n",
        "global\n\n# service a\nfrontend a\nfrontend b\nbackend a\n",
        "global\n\n# service a\n",
        "global\n\n# service a\nbackend a\n\tserver x\n",
        "global\n\n# service a\nbackend a\n\tserver x db:http check\n",
    ],
)
def test_what_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        parse(text)


def test_a_file_of_somebody_else_has_no_services() -> None:
    assert parse("# x\nglobal\n\tdaemon\n\nbackend b\n\tserver a 10.0.0.1:1\n") == Document(
        (Section("global", ("daemon",)), Section("backend b", ("server a 10.0.0.1:1",)))
    )
