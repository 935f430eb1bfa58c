"""Lines as HAProxy's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockstack.synapse.haproxy.words import settings, split, without


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("  check\tinter  2s ", ("check", "inter", "2s")),
        (r"Host:\ www x", (r"Host:\ www", "x")),
        ("""sni str("a  b") 'c d'""", ("sni", 'str("a  b")', "'c d'")),
        (r'"a \" b"', (r'"a \" b"',)),
        (r"a\#b", (r"a\#b",)),
        ("'#'", ("'#'",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert split(text) == words


@pytest.mark.parametrize("text", ['a "b', "a 'b", "a\\", "check # no", "check#no", '"a"#'])
def test_a_line_that_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"comment|not closed"):
        split(text)


@pytest.mark.parametrize("text", ["a b#c", "a b # c", " a 'b' #", 'a b#"', "# x"])
def test_a_comment_may_be_left_out(text: str) -> None:
    assert [word.strip("'") for word in split(text, comment=True)] == ["a", "b"][: 2 * (text != "# x")]


@pytest.mark.parametrize("text", ['"a\nbackend x"', "'a\r\nb'", "a\\\nb", 'sni "x" a\\\n'])
def test_a_line_break_in_a_word_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        split(text)
    assert split("a\nb") == ("a", "b")


@given(st.text(alphabet="ab \t\"'\\#", max_size=12))
def test_words_written_again_are_the_same_words(text: str) -> None:
    try:
        words = split(text)
    except ValueError:
        return
    assert split(" ".join(words)) == words
    assert sorted("".join("".join(words).split())) == sorted("".join(text.split()))


def test_a_keyword_that_takes_an_argument_is_read_with_it() -> None:
    text = "check inter 2s sni weight weight 3 track id backup set-proxy-v2-tlv-fmt(0x20) x"
    assert [*settings(split(text))] == [
        ("check",),
        ("inter", "2s"),
        ("sni", "weight"),
        ("weight", "3"),
        ("track", "id"),
        ("backup",),
        ("set-proxy-v2-tlv-fmt(0x20)", "x"),
    ]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("check weight 7  inter 2s", "check inter 2s"),
        ("weight 3  maxconn 9 weight 50%", "maxconn 9"),
        ("sni weight check", "sni weight check"),
        ("check  backup", "check backup"),
    ],
)
def test_settings_are_left_out_with_their_arguments(text: str, left: str) -> None:
    assert without(text, "weight") == left
