"""From a service's settings to what is written in a registry, and in which registry. Pure."""

from __future__ import annotations

from typing import Any

from dockstack.model import Instance
from dockstack.registry import Locator, NodeKind, Registration, Tls
from dockstack.registry.codec import compact, encode
from dockstack.registry.url import fold, parse_hosts
from dockstack.settings.common import TlsSettings
from dockstack.settings.nerve import NerveService

ZOOKEEPER_PORT = 2181


def registration_of(name: str, instance_id: str, service: NerveService) -> Registration:
    """What the service `name` announces when it is up; raises ValueError, with the key at fault, where it cannot be."""
    path = service.file_path if service.reporter_type == "file" else service.zk_path
    key = "file_path" if service.reporter_type == "file" else "zk_path"
    if not path:
        raise ValueError(f"{key} is missing: name the path under which the service is registered")
    if service.weight is None and "weight" in service.model_fields_set:
        raise ValueError("weight is null: give a number, or leave the key out")
    registration = Registration(
        key=name,
        path=fold(path),
        instance=Instance(
            host=service.host,
            port=service.port,
            name=instance_id,
            weight=service.weight,
            haproxy_server_options=service.haproxy_server_options,
            labels=_labels(service.labels),
        ),
        kind=NodeKind(service.node_type),
        path_encoding=service.use_path_encoding,
        nulls=tuple(
            key
            for key in ("haproxy_server_options", "labels")
            if key in service.model_fields_set and getattr(service, key) is None
        ),
        ttl=service.ttl_seconds,
    )
    encode(registration)
    return registration


def locator_of(service: NerveService) -> Locator:
    """The registry that the service is announced in; raises ValueError, with the key at fault."""
    if service.reporter_type == "file":
        if not service.file_directory:
            raise ValueError("file_directory is missing: name the directory that is the registry")
        return Locator("file", root=fold(service.file_directory))
    if service.reporter_type != "zookeeper":
        raise ValueError(f"reporter_type {service.reporter_type} is not there yet: use zookeeper or file")
    if not service.zk_hosts:
        raise ValueError("zk_hosts is missing: name at least one HOST:PORT")
    try:
        hosts, chroot = parse_hosts(service.zk_hosts, ZOOKEEPER_PORT)
    except ValueError as error:
        raise ValueError(f"zk_hosts: {error}") from None
    user, colon, password = (service.zk_auth or "").partition(":")
    if service.zk_auth and not (user and colon):
        raise ValueError("zk_auth is not USER:PASSWORD")
    return Locator(
        "zookeeper",
        hosts=tuple(sorted(hosts)),  # the same hosts in another order are the same session
        root=chroot,
        username=user or None,
        password=password if user else None,
        tls=_tls(service.zk_tls),
        session_timeout=service.zk_session_timeout,
    )


def _labels(labels: dict[str, Any] | None) -> str | None:
    if labels is None:
        return None
    try:
        return compact(labels)
    except ValueError as error:
        raise ValueError(f"labels: {error}") from None


def _tls(settings: TlsSettings | None) -> Tls | None:
    if settings is None:
        return None
    return Tls(settings.ca_file, settings.cert_file, settings.key_file, settings.verify)
