"""The template of server options."""

from __future__ import annotations

import pytest

from dockstack.settings.template import fault, fill

VALUES = {"host": "h", "port": "1", "name": "n_h:1"}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("check addr %{host} port %{port}", "check addr h port 1"),
        ("sni str(%{name}) weight 50%%", "sni str(n_h:1) weight 50%"),
        ("%%{host}", "%{host}"),
        ("", ""),
    ],
)
def test_variables_are_filled_in(template: str, text: str) -> None:
    assert fault(template) is None
    assert fill(template, VALUES) == text


@pytest.mark.parametrize(
    ("template", "named"), [("addr %{ip}", "%{ip}"), ("50%", "`%`"), ("%{host", "%{host"), ("%h", "%h")]
)
def test_anything_else_is_named(template: str, named: str) -> None:
    assert named in (fault(template) or "")
    with pytest.raises(ValueError, match="variable"):
        fill(template, VALUES)
