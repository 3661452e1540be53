"""An HTTP server that keeps what it is sent, as WebDAV and simple object stores do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
