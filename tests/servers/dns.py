"""A small authoritative DNS server on loopback, over UDP and TCP, whose answers a test switches.

It runs in the test's own event loop; its messages are dnspython's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.servers.ports import free_port

Asked = tuple[str, str, str]
"""The name, the type, and `udp` or `tcp`."""


class DnsServer:
    """Answers for every name in the world: with its records, or NXDOMAIN where it has none of any type.

    `rcodes` (by name, or by name and type) are answered instead; for `silent` names it says nothing; with `truncates`
    UDP answers are cut off, so that they must be asked for by TCP. All may be changed at any time.
    """

    def __init__(self, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.ttl = 300
        self.rcodes: dict[str | tuple[str, str], str] = {}
        self.silent: set[str] = set()
        self.truncates = False
        self.asked: list[Asked] = []
        self._records: dict[str, dict[str, tuple[str, ...]]] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    def set(self, name: str, kind: str, *values: str) -> None:
        """The records of a type that a name has from now on; none: the name exists, without such records."""
        self._records.setdefault(name, {})[kind] = values

    def remove(self, name: str) -> None:
        """The name does not exist from now on."""
        self._records.pop(name, None)

    def count(self, name: str, kind: str = "A") -> int:
        """How often this was asked."""
        return sum(1 for one in self.asked if one[:2] == (name, kind))

    async def start(self) -> None:
        """Returns when it answers."""
        loop = asyncio.get_running_loop()
        address = ("127.0.0.1", self.port)
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._answer), local_addr=address)
        self._tcp = await asyncio.start_server(self._connected, *address)

    async def stop(self) -> None:
        """Nobody answers any more; fine when it is not running."""
        udp, self._udp = self._udp, None
        tcp, self._tcp = self._tcp, None
        if udp is not None:
            udp.close()
        for one in self._connections:
            one.close()
        if tcp is not None:
            tcp.close()
            await tcp.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(2), "big")
                answer = self._answer(await reader.readexactly(length), "tcp")
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        finally:
            self._connections.discard(writer)

    def _answer(self, wire: bytes, way: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind, way))
        if name in self.silent:
            return None
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        rcode = self.rcodes.get((name, kind), self.rcodes.get(name))
        if rcode is not None:
            answer.set_rcode(dns.rcode.from_text(rcode))
        elif self.truncates and way == "udp":
            answer.flags |= dns.flags.TC
        else:
            self._fill(answer, name, kind)
        return answer.to_wire()

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        found = self._records.get(name)
        if found is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return
        alias = found.get("CNAME")
        if alias:
            self._add(answer, name, "CNAME", alias)
            self._fill(answer, alias[0].rstrip("."), kind)
        elif found.get(kind):
            self._add(answer, name, kind, found[kind])

    def _add(self, answer: dns.message.Message, name: str, kind: str, values: Sequence[str]) -> None:
        answer.answer.append(dns.rrset.from_text(dns.name.from_text(name), self.ttl, "IN", kind, *values))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes, str], bytes | None]) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answer(data, "udp")
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)
