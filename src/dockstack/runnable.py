"""From a document to settings that can be run, or to all that is wrong with them, also where only their rooms know it:
the plan of nerve, the frame of haproxy.cfg, the files of TLS, the plug-ins that are installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dockstack import plugins
from dockstack.documents import Document
from dockstack.errors import ConfigurationError, Problem
from dockstack.registry import Tls, tls
from dockstack.settings import loading
from dockstack.settings.common import TlsSettings
from dockstack.settings.loading import Loaded
from dockstack.settings.nerve import NerveSettings

if TYPE_CHECKING:
    from dockstack.settings.synapse import SynapseSettings

_TLS_KEYS = {"zookeeper": ("zk_tls",), "etcd": ("etcd_tls",)}
"""Which key of nerve's service has the TLS settings of its registry."""


def nerve(document: Document, lenient: bool, doubts: Sequence[Problem], check: bool) -> Loaded[NerveSettings]:
    """nerve's settings, with `doubts` before their warnings; `lenient`: unknown keys are warnings; `check`: with what
    its services would warn of. Raises ConfigurationError."""
    from dockstack.nerve.service import plan

    document = with_modules(document)
    loaded = loading.nerve(document, lenient)
    with _located(document):
        services = plan(loaded.settings)
        _check_files(
            (f"services.{name}.{key}", getattr(one, key))
            for name, one in loaded.settings.services.items()
            for key in _TLS_KEYS.get(one.reporter_type, ())
        )
    warnings = (*doubts, *loaded.warnings)
    if check:
        texts = dict.fromkeys(text for service in services for text in service.warnings)
        warnings += tuple(document.located(Problem(*text.split(": ", 1))) for text in texts)
    return replace(loaded, warnings=warnings)


def with_modules(document: Document) -> Document:
    """The document, in which a check whose type is that of an installed plug-in has the `module` that means it."""

    def named(check: Any) -> Any:
        kind = check.get("type") if isinstance(check, dict) else None
        if not isinstance(kind, str) or check.get("module") is not None or kind in plugins.built_in("checks"):
            return check
        return {**check, "module": kind} if plugins.offered("checks", kind) else check

    def with_checks(service: Any) -> Any:
        checks = service.get("checks") if isinstance(service, dict) else None
        return {**service, "checks": [named(check) for check in checks]} if isinstance(checks, list) else service

    services = document.data.get("services")
    if not isinstance(services, dict):
        return document
    return document.with_data({**document.data, "services": {name: with_checks(one) for name, one in services.items()}})


def synapse(document: Document, lenient: bool, doubts: Sequence[Problem]) -> Loaded[SynapseSettings]:
    """synapse's settings, as for nerve."""
    from dockstack.settings import load
    from dockstack.synapse.haproxy.document import Layout

    loaded = load.synapse(document, lenient, plugins.offered)
    with _located(document):
        if loaded.settings.haproxy is not None:
            Layout(loaded.settings.haproxy, (), "").frame(loaded.settings.services)
        _check_files(
            (".".join(("services", name, *steps, "tls")), getattr(one, "tls", None))
            for name, service in loaded.settings.services.items()
            for steps, one in service.sources()
        )
    return replace(loaded, warnings=(*doubts, *loaded.warnings))


def _check_files(found: Iterable[tuple[str, Any]]) -> None:
    """Looks at the files of TLS settings, each by its place, before they are needed: whoever opens a registry while all
    else runs has nobody left to tell. Raises ConfigurationError."""
    plain = ((where, Tls(**one.model_dump())) for where, one in found if isinstance(one, TlsSettings))
    if problems := tls.faults(plain):
        raise ConfigurationError(*problems)


@contextmanager
def _located(document: Document) -> Iterator[None]:
    """Gives the problems that are found behind the settings their lines in the file."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(*map(document.located, error.problems)) from None
