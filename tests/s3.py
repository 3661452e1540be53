"""A server that speaks S3's protocol and keeps everything in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from moto.server import ThreadedMotoServer

KEYS = {"access_key_id": "team", "secret_access_key": "sesame"}  # it does not look at them


@contextmanager
def running_s3() -> Iterator[str]:
    """Serve an empty bucket named `sets` on a loopback port of its own until the block ends; yield the endpoint."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    try:
        httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()
        httpx.put(f"{endpoint}/sets").raise_for_status()
        yield endpoint
    finally:
        server.stop()
