"""The services that nerve looks after now, and the change from one list of them to the next.

A changed service is watched in its new form before the old form is given up, and the registry is told only when the new
form has its first verdict: nothing is out of the registry because of a reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable

from dockstack.admin.report import Report
from dockstack.events import Emit, Warn
from dockstack.nerve.events import Launched, Reaped, Stopped
from dockstack.nerve.names import Names
from dockstack.nerve.post import Post, Registries
from dockstack.nerve.service import Service, Start


class Roster:
    """All tasks are children of the given group: when they are cancelled, each service is withdrawn."""

    def __init__(self, group: asyncio.TaskGroup, registries: Registries, emit: Emit) -> None:
        self._group = group
        self._registries = registries
        self._emit = emit
        self._names = Names()
        self._posts: dict[str, Post] = {}
        self._leaving: dict[str, asyncio.Task[None]] = {}

    def change(self, services: Iterable[Service]) -> None:
        """Makes these the services that are looked after: starts, replaces and stops, and leaves the others alone."""
        wanted = {service.name: service for service in services}
        self._leaving = {name: task for name, task in self._leaving.items() if not task.done()}
        for name in [name for name in self._posts if name not in wanted]:
            if (task := self._posts.pop(name).end()) is not None:
                self._leaving[name] = task
            self._emit(Reaped(name, "old"))
        fresh = [service for service in wanted.values() if not self._has(service)]
        for place, service in enumerate(fresh):
            for text in service.warnings:
                self._emit(Warn(text))
            self._emit(Launched(service.name, "update" if service.name in self._posts else "new"))
            self._take(service, Start.of(place, len(fresh), service.settings.check_interval))

    def end(self) -> None:
        """Stops checking and withdraws all; the group is done when that is."""
        for name, post in self._posts.items():
            post.end()
            self._emit(Stopped(name))

    def ready(self, of: Container[str] | None = None) -> Report:
        """Whether each service (`of` these names) has a first verdict that was reported, and what is missing."""
        posts = {name: post for name, post in self._posts.items() if of is None or name in of}
        missing = tuple(f"{name}: {post.missing}" for name, post in posts.items() if post.missing)
        count = len(posts)
        all_done = f"all {count} services are" if count != 1 else "the service is"
        return Report(not missing, missing or (f"{all_done} checked and reported",))

    def health(self) -> Report:
        """Whether the checks make progress, and the state of each service."""
        now = asyncio.get_running_loop().time()
        late = {name: late for name, post in self._posts.items() if (late := post.overdue(now)) is not None}
        lines = [f"{name}: no check has ended for {seconds:.0f} s" for name, seconds in late.items()]
        return Report(not late, (*lines, *(f"{name}: {post}" for name, post in self._posts.items())))

    def _has(self, service: Service) -> bool:
        post = self._posts.get(service.name)
        return post is not None and post.service == service

    def _take(self, service: Service, first: Start) -> None:
        post = self._posts.get(service.name)
        for there in post.chain() if post else ():
            if post and there.service.locator == service.locator:
                if there is not post:
                    post.end(spared=there)
                there.replace(service, first)
                self._posts[service.name] = there
                return
        fresh = Post(self._group, self._registries, self._emit, self._names, service, elsewhere=post)
        fresh.start(first, self._leaving.get(service.name))
        self._posts[service.name] = fresh
