"""Keeps the code that trained a model: a byte-deterministic archive of this package and its package lock."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

from retrain.errors import Cancelled

LOCK = "packages.lock"
CANCEL_SECONDS = 1.0
_PACKAGE = "retrain"


def make(root: Path) -> bytes:
    """Archive the package `retrain` below `root` and the installed packages' versions; equal ones give equal bytes."""
    return zipped({LOCK: lock().encode()} | sources(root))


def sources(root: Path = Path(__file__).parents[1]) -> dict[str, bytes]:
    """Return the files of the package `retrain` below `root`, by name: of the code that runs here unless told else."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in _sources(root)}


def sha256() -> str:
    """Return the hash of this package and the installed packages' versions."""
    return f"sha256:{hashlib.sha256(make(Path(__file__).parents[1])).hexdigest()}"


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP file of these files in this order.

    Equal files give equal bytes: times and modes are fixed, and nothing is deflated, since builds of zlib differ.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(_entry(name), content)
    return buffer.getvalue()


def lock() -> str:
    """List the installed packages, one `name==version` a line, names normalised and sorted.

    Source: PEP 503 for normalised names.
    """
    pins = {(re.sub(r"[-_.]+", "-", each.name).lower(), each.version) for each in distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins))


def run(
    archive: bytes,
    arguments: Sequence[str],
    *,
    workdir: Path,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m ARGUMENTS` in `workdir` with the archive's `retrain` in place of this one.

    Installed packages are this environment's; compare the archive's lock with `lock()` where that matters.
    The caller judges the return code, and vouches for the archive: it runs with all rights of this process.

    Raises:
        Cancelled: `is_cancelled` said so; it is asked every second.
    """
    with tempfile.TemporaryDirectory(dir=workdir, prefix=".code-") as code:
        with zipfile.ZipFile(io.BytesIO(archive)) as source:
            source.extractall(code)
        environment = {**os.environ, "PYTHONPATH": code, "PYTHONSAFEPATH": "1"}
        command = [sys.executable, "-m", *arguments]
        with subprocess.Popen(  # noqa: S603 - no shell, and the archive is ours, fetched by its hash
            command,
            cwd=workdir,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            try:
                while True:
                    with suppress(subprocess.TimeoutExpired):
                        said = running.communicate(timeout=CANCEL_SECONDS)
                        return subprocess.CompletedProcess(command, running.returncode, *said)
                    if is_cancelled():
                        raise Cancelled("archived code was running")
            finally:
                running.kill()  # whatever ends this ends it too; one that has ended is left alone


def _sources(root: Path) -> Iterator[Path]:
    """Yield the package's files in the order of their names, without caches and hidden files."""
    for path in sorted((root / _PACKAGE).rglob("*"), key=lambda path: path.relative_to(root).as_posix()):
        parts = path.relative_to(root).parts
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in parts):
            yield path


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    return entry
