"""A closed load on an HTTP server: so many connections, each sends its next request once it was answered."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go, and how to make the body of another one; no two are the same."""

    url: str
    headers: Mapping[str, str]
    body: Callable[[], bytes]

    def request(self) -> bytes:
        """Return a request as it goes over the wire."""
        parts, body = urlsplit(self.url), self.body()
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        said = {"Host": parts.netloc, "Content-Type": "application/json", **self.headers}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in said.items())]
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


@dataclass(slots=True)
class Served:
    """What came of a load; only requests that were granted count."""

    seconds: float
    milliseconds: list[float] = field(default_factory=list)
    errors: int = 0
    cpu_seconds: float = 0  # of the server's processes

    @property
    def per_second(self) -> float:
        """How many requests were granted in a second."""
        return len(self.milliseconds) / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """What a granted request cost the server, which says more than the clock where others work too."""
        return 1000 * self.cpu_seconds / max(1, len(self.milliseconds))


class _Connection(asyncio.Protocol):
    """One connection; reads as much of HTTP as our servers and their rivals write."""

    def __init__(self, target: Target, served: Served, until: float, ended: asyncio.Future[None]) -> None:
        self.target, self.served, self.until, self.ended = target, served, until, ended
        self.seen, self.began = b"", 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.seen, request, self.began = b"", self.target.request(), time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        head, found, body = self.seen.partition(b"\r\n\r\n")
        if not found or not _is_whole(head.lower(), body):
            return
        now = time.perf_counter()
        if head[9:10] == b"2":
            self.served.milliseconds.append((now - self.began) * 1000)
        else:
            self.served.errors += 1
        if now < self.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.served.errors += time.perf_counter() < self.until
        self.ended.set_result(None)


def load(target: Target, *, concurrency: int, seconds: float) -> Served:
    """Load a server for so long; whoever is being answered at the end is waited for."""

    async def run() -> Served:
        loop, began = asyncio.get_running_loop(), time.perf_counter()
        served, ended = Served(seconds), [loop.create_future() for _ in range(concurrency)]
        parts = urlsplit(target.url)
        for one in ended:
            connection = _Connection(target, served, began + seconds, one)
            await loop.create_connection(lambda made=connection: made, parts.hostname, parts.port)
        await asyncio.gather(*ended)
        served.seconds = time.perf_counter() - began
        return served

    return asyncio.run(run())


def _is_whole(head: bytes, body: bytes) -> bool:
    if b"transfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
