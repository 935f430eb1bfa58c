"""Field types that both files use."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Model(BaseModel):
    """A part of a settings file: frozen, and a key that it does not know is a problem."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _one_line_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _port(value: int | str) -> int | str:
    if not str(value).isdigit() or not 1 <= int(value) <= 65535:
        raise ValueError(f"port {value} is not between 1 and 65535")
    return value


Lines = Annotated[tuple[str, ...], BeforeValidator(_one_line_is_a_list)]
"""Configuration lines; a text where a list is meant is one line."""

Port = Annotated[int | str, AfterValidator(_port)]
"""A TCP port that keeps its type: a quoted port is registered as text."""

Seconds = Annotated[float, Field(ge=0)]


class TlsSettings(Model):
    """TLS towards a registry; PEM files."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


class StatsdSettings(Model):
    """Where counters go, by UDP."""

    host: str = "localhost"
    port: int = 8125
    sample_rate: dict[str, float] = {}
