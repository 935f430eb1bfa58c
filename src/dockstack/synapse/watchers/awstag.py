"""The method `awstag`: another name for `ec2tag`."""

from __future__ import annotations

from dockstack.synapse.watchers.ec2tag import build

__all__ = ["build"]
