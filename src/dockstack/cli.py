"""The commands. What a command needs is imported when it runs: `--help` is quick, a daemon carries its own role."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dockstack import __version__, usage
from dockstack.errors import DockStackError, Problem
from dockstack.life import SOCKETS, live, make_directories, named
from dockstack.refusals import Commands, told

if TYPE_CHECKING:
    from dockstack.configure import Given
    from dockstack.settings.load import Loaded
    from dockstack.settings.synapse import SynapseSettings
    from dockstack.synapse.daemon import Options

ROLES = tuple(SOCKETS)
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(cls=Commands, context_settings=_HELP)
@click.version_option(__version__, prog_name="dockstack")
def main() -> None:
    """Registers healthy services (nerve) and routes to them through a local HAProxy (synapse)."""


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_unknown_keys = click.option(
    "--unknown-keys",
    type=click.Choice(["error", "warn"]),
    envvar="DOCKSTACK_UNKNOWN_KEYS",
    default="error",
    show_default=True,
    help="What a key that nobody knows is.",
)
_configuration = _options(
    click.option("-c", "--config", metavar="FILE", help="The configuration file; for synapse also `default`."),
    click.option(
        "-d", "--discovery", multiple=True, metavar="URL", help="zk://H1,H2/BASE, etcd://… or file:///DIR; for all -s."
    ),
    click.option("-s", "--service", "services", multiple=True, metavar="SPEC", help="A service, as above; repeatable."),
    click.option(
        "-r", "--raw", "raws", multiple=True, metavar="NAME:JQ", help="A jq program on that service; repeatable."
    ),
    click.option(
        "--templates",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Templates of your own, looked at first.",
    ),
    click.option(
        "--session-timeout",
        type=click.FloatRange(0.5, 600),
        metavar="SECONDS",
        help="The registry's, for all -s; default 10.",
    ),
    _unknown_keys,
)
_run_dir = click.option(
    "--run-dir", type=click.Path(path_type=Path), metavar="DIR", help="Sockets, locks, generated files."
)
_state_dir = click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="What is kept over a restart."
)


@main.command(context_settings=_HELP, epilog=usage.NERVE)
@_configuration
@click.option("-i", "--instance_id", "--instance-id", metavar="ID", help="The name to register under.")
@click.option(
    "--advertise", default="host", metavar="host|docker[:NETWORK]", help="Which address of a container counts."
)
@click.option("--docker", is_flag=True, help="Register the containers whose labels ask for it.")
@click.option("-k", "--check-config", is_flag=True, help="Check the configuration and exit: 0 or 2.")
@click.option(
    "--drain",
    type=click.FloatRange(0, 3600),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Between withdrawal and exit.",
)
@_run_dir
@_state_dir
def nerve(
    *,
    instance_id: str | None,
    check_config: bool,
    drain: float,
    run_dir: Path | None,
    state_dir: Path | None,
    **given: Any,
) -> None:
    """Checks services and keeps the healthy ones registered.

    With -s NAME:TYPE:PORT:PATH the service NAME on PORT is checked as TYPE says and registered below BASE + PATH;
    SERVICE_HOST is the address that others reach it under. With -s NAME:TYPE:CONTAINER:CONTAINER_PORT:PATH the port is
    the one that Docker publishes for the container. With --docker so is each running container that says with a label
    dockstack.NAME.port=CONTAINER_PORT.
    """
    from dockstack import configure

    asked = _given(given)
    check_config = check_config or bool(os.environ.get("NERVE_CHECK_CONFIG"))
    loaded = configure.nerve(asked, instance_id, os.environ, check_config)
    if check_config:
        _approve(loaded.warnings, len(loaded.settings.services))
        return
    run_dir, state_dir = named(run_dir, state_dir)
    make_directories("nerve", run_dir)

    async def life() -> None:
        from dockstack.log import to_log
        from dockstack.nerve.daemon import Options, run

        def read_again() -> Any:
            return configure.nerve(asked, instance_id, os.environ).settings

        config = configure.settings_file(asked, os.environ.get("NERVE_CONFIG"))
        options = Options(run_dir, state_dir, drain, read_again, config, os.environ.get("DOCKER_HOST"))
        if asked.docker:
            options = replace(options, labels=lambda now: configure.label_terms(asked, now.instance_id, os.environ))
        await run(loaded.settings, options, to_log)

    live("nerve", run_dir, loaded.warnings, life)


_ambassador = _options(
    click.option("--bind", metavar="ADDRESS", help="Where the frontends listen; default 0.0.0.0, or as the file says."),
    click.option("--stats", metavar="HOST:PORT|off", help="Read-only page; default with -s: 127.0.0.1:8080."),
    click.option(
        "--haproxy",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Which HAProxy; default: the one on the PATH if 2.6 or newer, else the wheel's.",
    ),
    click.option(
        "--drain",
        type=click.FloatRange(0, 3600),
        default=0.5,
        show_default=True,
        metavar="SECONDS",
        help="For open connections, at the end.",
    ),
    click.option(
        "--removal",
        type=click.FloatRange(0, 604800),
        default=3600.0,
        show_default=True,
        metavar="SECONDS",
        help="For open connections to a server that left; 0: cut at once.",
    ),
    click.option(
        "--startup-grace",
        type=click.FloatRange(0, 600),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="For the registry, at the start.",
    ),
    _run_dir,
    _state_dir,
)


@main.command(context_settings=_HELP, epilog=usage.SYNAPSE, short_help="Prints what `synapse` would do now.")
@_configuration
@_ambassador
@click.pass_context
def plan(context: click.Context, /, **options: Any) -> None:
    """Prints what `synapse` would do now: HAProxy's file, and the difference to what runs. Changes nothing."""
    context.invoke(synapse, **options, dry_run=True)


@main.command(context_settings=_HELP, epilog=usage.SYNAPSE)
@_configuration
@_ambassador
@click.option("--dry-run", is_flag=True, help="Print what would be done, as `dockstack plan` does, and exit.")
def synapse(
    *,
    bind: str | None,
    stats: str | None,
    haproxy: Path | None,
    drain: float,
    removal: float,
    startup_grace: float,
    run_dir: Path | None,
    state_dir: Path | None,
    dry_run: bool,
    **given: Any,
) -> None:
    """Follows registrations and drives a local HAProxy.

    With -s NAME:TYPE:PATH the instances below BASE + PATH are served as TYPE says. -c names a file or a base
    configuration.
    """
    from dockstack import configure

    run_dir, state_dir = named(run_dir, state_dir)
    asked, ambassador = _given(given), configure.Ambassador(run_dir, bind, stats)
    loaded = configure.synapse(asked, ambassador, os.environ)
    from dockstack.synapse.daemon import Options, run

    def read_again() -> Any:
        return configure.synapse(asked, ambassador, os.environ).settings

    options = Options(
        run_dir=run_dir,
        state_dir=state_dir,
        haproxy=haproxy,
        drain=drain,
        removal=removal,
        startup_grace=startup_grace,
        reload=read_again,
        config=configure.settings_file(asked, os.environ.get("SYNAPSE_CONFIG")),
    )
    if dry_run:
        _preview(loaded, options)
        return
    options = replace(options, haproxy=_haproxy(loaded.settings, haproxy))
    make_directories("synapse", run_dir, state_dir)

    async def life() -> None:
        from dockstack.log import to_log

        await run(loaded.settings, options, to_log)

    live("synapse", run_dir, loaded.warnings, life)


@main.command(context_settings=_HELP, short_help="Shows the whole product on this machine.")
@click.option("--stay", is_flag=True, help="Keep everything running at the end and print where it is.")
def demo(stay: bool) -> None:
    """Shows the whole product on this machine: no server, no root, no Docker."""
    from dockstack.demo import run

    sys.exit(run(stay))


@main.command(context_settings=_HELP, short_help="Checks a nerve or synapse file: exit 0 or 2.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice(ROLES), help="Default: by what the file holds.")
@_unknown_keys
def check(file: Path, role: str | None, unknown_keys: str) -> None:
    """Checks a nerve or synapse file: exit 0, or 2 with everything that is wrong."""
    from dockstack import configure

    loaded = configure.file(file, role, unknown_keys == "warn", os.environ)
    _approve(loaded.warnings, len(loaded.settings.services))


@main.command(context_settings=_HELP, short_help="Prints the JSON Schema of a file.")
@click.argument("role", type=click.Choice(ROLES))
def schema(role: str) -> None:
    """Prints the JSON Schema of the nerve or the synapse file, for editors."""
    from dockstack.settings.schema import text

    click.echo(text(role), nl=False)


_role = click.option("--role", type=click.Choice(ROLES), help="Default: every daemon of the run directory.")


@main.command(context_settings=_HELP)
@_role
@_run_dir
def health(role: str | None, run_dir: Path | None) -> None:
    """Asks whether the daemon is well: exit 0 or 1."""
    _ask("health", role, run_dir)


@main.command(context_settings=_HELP, short_help="Asks whether the daemon has done its first work: exit 0 or 1.")
@_role
@_run_dir
def ready(role: str | None, run_dir: Path | None) -> None:
    """Asks whether the daemon has done its first work (registered; serving): exit 0 or 1."""
    _ask("ready", role, run_dir)


def nerve_main() -> None:
    """The command `dockstack-nerve`."""
    with told():
        nerve(prog_name="dockstack-nerve")


def synapse_main() -> None:
    """The command `dockstack-synapse`."""
    with told():
        synapse(prog_name="dockstack-synapse")


def _given(options: dict[str, Any]) -> Given:
    from dockstack.configure import Given

    lenient = options.pop("unknown_keys") == "warn"
    return Given(**options, unknown_keys_are_warnings=lenient)


def _approve(warnings: tuple[Problem, ...], services: int) -> None:
    for warning in warnings:
        click.echo(f"dockstack: warning: {warning}", err=True)
    click.echo(f"the configuration is valid: {services} service{'' if services == 1 else 's'}")


def _haproxy(settings: SynapseSettings, given: Path | None) -> Path | None:
    """The HAProxy that will be run, if one will be: where there is none, no directory is made either."""
    import asyncio

    from dockstack.synapse.daemon import is_managed
    from dockstack.synapse.haproxy import binary

    if settings.haproxy is None or not is_managed(settings.haproxy):
        return given
    return asyncio.run(binary.find(given)).path


def _preview(loaded: Loaded[SynapseSettings], options: Options) -> None:
    import asyncio

    from dockstack.events import WARNING, Event
    from dockstack.synapse.preview import lines, preview

    def emit(event: Event) -> None:
        if event.level >= WARNING:
            click.echo(f"dockstack: warning: {event}", err=True)

    for warning in loaded.warnings:
        click.echo(f"dockstack: warning: {warning}", err=True)
    click.echo("\n".join(lines(asyncio.run(preview(loaded.settings, options, emit)))))


def _ask(question: Any, role: str | None, run_dir: Path | None) -> None:
    from dockstack.admin.client import NoAnswer, ask

    directory, _ = named(run_dir, None)
    asked = [role] if role else [each for each in ROLES if (directory / f"{each}.sock").exists()]
    if not asked:
        raise DockStackError(f"no daemon runs in {directory}; start one, or name its directory with --run-dir")
    well = True
    for each in asked:
        try:
            report = ask(directory / f"{each}.sock", question)
        except NoAnswer as error:
            well = False
            click.echo(f"dockstack: {error}", err=True)
            continue
        well = well and report.ok
        for line in report.lines or (("ok" if report.ok else "not ok"),):
            click.echo(f"{each}: {line}")
    if not well:
        sys.exit(1)
