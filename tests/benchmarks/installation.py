"""An installation of its own for a bench: a database, a Valkey, and nothing left afterwards."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from service import logs, migrations
from service.runtime import Runtime, build
from service.settings import Settings
from tests.servers import start_valkey


@contextmanager
def installation(**chosen: Any) -> Iterator[Runtime]:
    """Yield the runtime of a fresh installation in a folder that lasts as long as the block."""
    logs.configure(level=logging.CRITICAL)
    with TemporaryDirectory(prefix="errata-bench-") as folder:
        settings = Settings(**{"data_dir": Path(folder), "cache_dir": Path(folder) / "cache"} | chosen)
        runtime = build(settings)
        migrations.upgrade(runtime.db)
        server = start_valkey(settings.data_dir)
        try:
            yield runtime
        finally:
            runtime.db.close()
            runtime.queue.redis.close()
            server.terminate()
            server.wait()
