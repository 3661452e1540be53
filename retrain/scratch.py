"""Folders that are gone when their user is: what a killed one leaves is known by that nobody holds its lock."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def lend(home: Path) -> Iterator[Path]:
    """Lend a folder that is gone afterwards."""
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home) as folder, _opened(folder) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder)


def clear(home: Path) -> None:
    """Remove what killed users left here; what is lent stays."""
    for left in home.iterdir() if home.exists() else ():
        with suppress(BlockingIOError, FileNotFoundError), _opened(left) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def _opened(path: str | Path) -> Iterator[int]:
    lock = os.open(path, os.O_RDONLY)
    try:
        yield lock
    finally:
        os.close(lock)
