"""The few errors that an operator can act on. Each message says what happened, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


class DockStackError(Exception):
    """Something outside the program is not as it must be; the text is for the operator."""


class RegistryUnavailable(DockStackError):
    """The registry could not be asked. Nothing is known: this is never the same as an empty answer."""


class RegistryRefused(RegistryUnavailable):
    """The registry's answer to a write was no, and it has done nothing of it."""


class EngineUnavailable(DockStackError):
    """The Docker engine could not be asked. Nothing is known of its containers."""


class HaproxyUnavailable(DockStackError):
    """HAProxy could not be started or asked, or did not answer in time. What it runs is not known."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what the user wrote: where (file and line, or option, and the path in it) and what to do."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigurationError(DockStackError):
    """The user's input has faults: all of them at once. The command line turns it into exit status 2."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
