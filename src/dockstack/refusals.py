"""How the program ends on what an operator can act on: one line for each fault on stderr, and a status."""

from __future__ import annotations

import sys
from typing import Any

import click

from dockstack.errors import ConfigurationError, DockStackError

REFUSED = 2
"""The exit status where something in the input is wrong."""


class told:
    """Ends the program, with status 2 or 1, on what an operator can act on; also when a task group has wrapped it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        errors = _plain(error)
        if not errors or not all(isinstance(each, DockStackError) for each in errors):
            return
        for line in dict.fromkeys(line for each in errors for line in str(each).splitlines()):
            click.echo(f"dockstack: {line}", err=True)
        sys.exit(REFUSED if any(isinstance(each, ConfigurationError) for each in errors) else 1)


class Commands(click.Group):
    """Turns what an operator can act on into lines on stderr; anything else is a bug and keeps its traceback."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option = error.option_name
            owners = [name for name, one in self.commands.items() if any(option in each.opts for each in one.params)]
            if not owners:
                raise
            owner = next((name for name in owners if name in given), owners[0])
            right = f"{ctx.command_path} {owner} {option} …"
            raise click.UsageError(f"{option} stands behind the command that it is for: {right}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        with told():
            return super().invoke(ctx)


def _plain(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [inner for each in error.exceptions for inner in _plain(each)]
    return [] if error is None else [error]
