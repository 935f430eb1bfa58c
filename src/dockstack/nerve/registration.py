"""From a service's settings to what is written in a registry, and in which registry. Pure."""

from __future__ import annotations

from typing import Any

from dockstack.model import Address, Instance
from dockstack.registry import Locator, NodeKind, Registration, Tls
from dockstack.registry.codec import compact, encode
from dockstack.registry.url import fold, parse_hosts
from dockstack.settings.common import TlsSettings
from dockstack.settings.nerve import AnyService, NerveService

ZOOKEEPER_PORT = 2181


def registration_of(name: str, instance_id: str, service: NerveService) -> Registration:
    """What the service `name` announces when it is up; raises ValueError, with the key at fault, where it cannot be."""
    key = {"file": "file_path", "etcd": "etcd_path"}.get(service.reporter_type, "zk_path")
    path: str | None = getattr(service, key)
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


def locator_of(service: AnyService) -> Locator:
    """The registry that the service is announced in; raises ValueError, with the key at fault."""
    if service.reporter_type == "file":
        if not service.file_directory:
            raise ValueError("file_directory is missing: name the directory that is the registry")
        return Locator("file", root=fold(service.file_directory))
    if service.reporter_type == "etcd":
        hosts, beside = _hosts("etcd_host", service.etcd_host, int(service.etcd_port))
        if beside:
            raise ValueError(f"etcd_host: {beside} is no host: write the path into etcd_path")
        user, password = _login("etcd_auth", service.etcd_auth)
        tls, timeout, scheme = service.etcd_tls, service.etcd_session_timeout, "etcd"
    else:
        hosts, beside = _hosts("zk_hosts", service.zk_hosts, ZOOKEEPER_PORT)
        user, password = _login("zk_auth", service.zk_auth)
        tls, timeout, scheme = service.zk_tls, service.zk_session_timeout, "zookeeper"
    return Locator(
        scheme,
        hosts=tuple(sorted(hosts)),  # the same hosts in another order are the same session
        root=beside,
        username=user,
        password=password,
        tls=_tls(tls),
        session_timeout=timeout,
    )


def _hosts(key: str, hosts: tuple[str, ...], port: int) -> tuple[tuple[Address, ...], str]:
    if not hosts:
        raise ValueError(f"{key} is missing: name at least one HOST:PORT")
    try:
        return parse_hosts(hosts, port)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _login(key: str, text: str | None) -> tuple[str | None, str | None]:
    user, colon, password = (text or "").partition(":")
    if text and not (user and colon):
        raise ValueError(f"{key} is not USER:PASSWORD")
    return (user, password) if user else (None, None)


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
