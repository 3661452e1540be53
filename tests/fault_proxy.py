"""A TCP proxy that does what networks do: it is late, silent, deaf, cuts off and loses answers."""

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PIECE = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # to close without lingering is to reset


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a connection; without any, nothing does.

    `after` is what a client has to say on it, in this order, before it happens: an INSERT and a COMMIT, say.
    """

    latency_seconds: float = 0  # before each piece goes on, in both directions
    is_black_hole: bool = False  # takes what is sent, passes nothing on, says nothing
    is_reset: bool = False
    cut_after_bytes: int | None = None  # of the answer; then reset
    swallows_answer: bool = False  # passes on what is sent, and resets instead of answering
    after: tuple[bytes, ...] = ()


NONE = Fault()


@dataclass(slots=True)
class FaultProxy:
    """A loopback port that stands before a server: `fault` may be another at any time."""

    target: tuple[str, int] | Path
    port: int = 0
    fault: Fault = NONE
    connections: int = 0  # that were taken so far
    faults: int = 0  # that happened so far
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        """Stand between one client and the server."""
        self.connections += 1
        self._open.add(out)
        try:
            if self.fault.is_reset and not self.fault.after:
                self._reset(out)
                return
            await self._between(client, out)
        finally:
            self._open.discard(out)
            out.close()

    async def reset_all(self) -> None:
        """Reset whatever is connected, as a server that restarts or a firewall that forgets does."""
        for out in list(self._open):
            self._reset(out)

    async def _between(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        server, to_server = await (
            asyncio.open_unix_connection(self.target)
            if isinstance(self.target, Path)
            else asyncio.open_connection(*self.target)
        )
        said = Said()
        ways = [
            asyncio.create_task(self._forward(client, to_server, said)),
            asyncio.create_task(self._answer(server, out, said)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            to_server.close()

    async def _forward(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, said: "Said"
    ) -> None:
        while piece := await client.read(PIECE):
            fault = said.met(piece, self.fault)
            await asyncio.sleep(fault.latency_seconds)
            if fault.is_black_hole:
                continue
            to_server.write(piece)
            await to_server.drain()

    async def _answer(self, server: asyncio.StreamReader, out: asyncio.StreamWriter, said: "Said") -> None:
        while piece := await server.read(PIECE):
            fault = said.active(self.fault)
            await asyncio.sleep(fault.latency_seconds)
            said.answered += len(piece)
            is_cut = fault.cut_after_bytes is not None and said.answered > fault.cut_after_bytes
            if is_cut and fault.cut_after_bytes:
                out.write(piece[: fault.cut_after_bytes])
            if is_cut or fault.swallows_answer or fault.is_reset:
                self._reset(out)
                return
            if not fault.is_black_hole:
                out.write(piece)
                await out.drain()

    def _reset(self, out: asyncio.StreamWriter) -> None:
        self.faults += 1
        out.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        out.transport.abort()


@dataclass(slots=True)
class Said:
    """How much of what a fault waits for one client has said, and what it was answered since."""

    told: int = 0
    answered: int = 0

    def met(self, piece: bytes, fault: Fault) -> Fault:
        """Look for what a fault waits for; from then on it holds."""
        while self.told < len(fault.after) and fault.after[self.told] in piece:
            self.told, self.answered = self.told + 1, 0
        return self.active(fault)

    def active(self, fault: Fault) -> Fault:
        """Return the fault if it holds for this connection now."""
        return fault if self.told >= len(fault.after) else NONE


@contextmanager
def in_between(target: tuple[str, int] | Path, tls: ssl.SSLContext | None = None) -> Iterator["RunningProxy"]:
    """Stand before a server, a port or a unix socket, until the block ends; with `tls` also end that."""
    proxy, loop = FaultProxy(target), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls))
    proxy.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield RunningProxy(proxy, loop)
    finally:
        asyncio.run_coroutine_threadsafe(_end(server, proxy), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """What a test holds of a proxy that runs in a thread of its own."""

    proxy: FaultProxy
    loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        return self.proxy.port

    @property
    def connections(self) -> int:
        return self.proxy.connections

    @property
    def faults(self) -> int:
        return self.proxy.faults

    def reset_all(self) -> None:
        """Reset whatever is connected now."""
        asyncio.run_coroutine_threadsafe(self.proxy.reset_all(), self.loop).result(10)

    @contextmanager
    def suffering(self, fault: Fault) -> Iterator[None]:
        """Have a fault happen until the block ends."""
        self.proxy.fault = fault
        try:
            yield
        finally:
            self.proxy.fault = NONE


async def _end(server: asyncio.Server, proxy: FaultProxy) -> None:
    server.close()
    await proxy.reset_all()
    here = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not here]
    for task in others:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*others, return_exceptions=True)
