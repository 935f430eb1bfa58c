"""The `%{…}` template of server options, which is checked where settings are read and filled in where they are used."""

from __future__ import annotations

from dockstack.settings.template import VARIABLES, fault, fill

__all__ = ["VARIABLES", "fault", "fill"]
