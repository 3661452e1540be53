"""Servers that keep what they are sent: over HTTP, as WebDAV and simple object stores do, and over SSH."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncssh

LOGIN = {"user": "team", "password": "sesame"}


@dataclass(slots=True)
class Storage:
    """What the server holds, by path; while `is_refusing` it takes and gives nothing."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    is_refusing: bool = False


@contextmanager
def running_storage() -> Iterator[Storage]:
    """Serve on a loopback port of its own until the block ends."""
    storage = Storage()
    handler = type("Handler", (_Handler,), {"storage": storage})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        storage.url = f"http://127.0.0.1:{server.server_port}/store"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            yield storage
        finally:
            server.shutdown()


@contextmanager
def running_ssh(folder: Path, *, key: Path | None = None) -> Iterator[str]:
    """Serve a folder to who knows the login, on a loopback port of its own until the block ends.

    With the file of a `key` it alone opens the door, and no password does.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    guests: list[asyncssh.SSHServerConnection] = []
    server = asyncio.run_coroutine_threadsafe(_listen(folder, partial(_Door, guests, key)), loop).result()
    try:
        yield f"ssh://127.0.0.1:{server.get_port()}/store"
    finally:
        asyncio.run_coroutine_threadsafe(_end(server, guests), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def key_file(path: Path) -> dict[str, str]:
    """Write a new private key that a passphrase locks; return what a login by it takes."""
    quick = {"rounds": 1, "ignore_few_rounds": True}  # to lock and to unlock
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(path, passphrase=LOGIN["password"], **quick)
    path.chmod(0o600)
    return {"user": LOGIN["user"], "keyfile": str(path), "passphrase": LOGIN["password"]}


async def _listen(folder: Path, door: Callable[[], asyncssh.SSHServer]) -> asyncssh.SSHAcceptor:
    return await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=door,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=partial(asyncssh.SFTPServer, chroot=str(folder).encode()),
    )


async def _end(server: asyncssh.SSHAcceptor, guests: list[asyncssh.SSHServerConnection]) -> None:
    for each in (server, *guests):
        each.close()
        await each.wait_closed()


class _Door(asyncssh.SSHServer):
    def __init__(self, guests, key):
        self.guests = guests
        self.key = key and asyncssh.read_private_key(key, LOGIN["password"]).convert_to_public()

    def connection_made(self, conn):
        self.guests.append(conn)

    def password_auth_supported(self):
        return self.key is None

    def public_key_auth_supported(self):
        return self.key is not None

    def validate_public_key(self, username, key):
        return username == LOGIN["user"] and key == self.key

    def validate_password(self, username, password):
        return {"user": username, "password": password} == LOGIN


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    storage: Storage

    def do_GET(self):
        self._give()

    def do_HEAD(self):
        self._give()

    def do_PUT(self):
        content = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._whole()
        if not self.storage.is_refusing:
            self.storage.objects[self.path] = content
        self._answer(HTTPStatus.FORBIDDEN if self.storage.is_refusing else HTTPStatus.CREATED)

    def do_DELETE(self):
        if self.storage.is_refusing:
            self._answer(HTTPStatus.FORBIDDEN)
        else:
            found = self.storage.objects.pop(self.path, None)
            self._answer(HTTPStatus.NOT_FOUND if found is None else HTTPStatus.NO_CONTENT)

    def log_message(self, *_):
        """Say nothing."""

    def _give(self):
        if self.storage.is_refusing:
            self._answer(HTTPStatus.FORBIDDEN)
        elif self.path in self.storage.objects:
            self._answer(HTTPStatus.OK, self.storage.objects[self.path])
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _answer(self, status, content=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _whole(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _chunks(self):
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content


def flip_a_bit(folder: Path, artifact: str) -> None:
    """Damage what a store below `folder` holds under this name."""
    digest = artifact.removeprefix("sha256:")
    [kept] = (path for path in folder.rglob("*") if path.name == digest[2:])
    content = bytearray(kept.read_bytes())
    content[len(content) // 2] ^= 1
    kept.write_bytes(content)
