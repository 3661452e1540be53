"""Holds content as DVC does: by MD5, in a local cache and on any remote that DVC knows, with pointers to it.

The layout is the one DVC documents. `dvc push` would fill a remote too, but logs its reasons and raises a count.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from shutil import copyfileobj
from typing import Any
from urllib.parse import urlsplit

from asyncssh import SSHClient
from dvc.exceptions import DvcException
from dvc.fs import (
    AuthError,
    ConfigError,
    FileSystem,
    HTTPFileSystem,
    LocalFileSystem,
    RemoteMissingDepsError,
    get_cloud_fs,
)
from fsspec.asyn import AsyncFileSystem, sync

from retrain.errors import RemoteRefused

_OUT = "- md5: {}\n  size: {}\n  hash: md5\n  path: {}\n"
_OUTS = re.compile(_OUT.replace("{}", "(.*)"))
# DVC waits three times as long for each byte, and asks a silent server five times.
_HTTP = {"connect_timeout": 20.0, "read_timeout": 20.0}
_PATIENCE = {"http": _HTTP, "https": _HTTP, "ssh": {"timeout": 60.0}}
_MISSING = (ImportError, RemoteMissingDepsError)
_REFUSALS = (OSError, DvcException, AuthError, ConfigError)
_REFUSALS_OF = {"aiohttp": "ClientError", "asyncssh": "Error", "botocore.exceptions": "BotoCoreError"}


@dataclass(frozen=True, slots=True)
class Cache:
    """The content that is on this machine."""

    root: Path

    def path(self, digest: str) -> Path:
        """Return where this content is, if it is here."""
        return Path(self.root, *_parts(digest))

    def add(self, file: Path, digest: str) -> None:
        """Copy a file unless its content is here."""
        if not self.path(digest).exists():
            _copy(file, self.path(digest))

    def remove(self, digest: str) -> None:
        """Remove content, and what a killed attempt to copy it left."""
        _remove(self.path(digest))

    def remove_others(self, keep: Iterable[str]) -> int:
        """Remove all content but this; return how many files that were."""
        kept = {self.path(digest) for digest in keep}
        others = [path for path in self.root.glob("files/md5/*/*") if path not in kept]
        for path in others:
            path.unlink()
        return len(others)


@dataclass(frozen=True, slots=True)
class Remote:
    """The content that is elsewhere: `url` and `options` as in DVC's configuration."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Refuse a URL with credentials, for it is committed."""
        url = urlsplit(self.url)
        if url.password or (url.username and url.scheme in {"http", "https"}):
            raise ValueError(
                f"the URL of the DVC remote on {url.hostname} holds credentials; make them options"
            )

    def send(self, digests: Iterable[str], cache: Cache) -> int:
        """Send what the cache has and the remote lacks; return how many objects that were.

        Raises:
            RemoteRefused: the remote said no, or nothing; another try goes on where this one ended.
        """
        sent = 0
        with self._files() as (files, root):
            for digest in sorted(digests):
                source, target = cache.path(digest), files.join(root, *_parts(digest))
                if source.exists() and not _is_there(files, target, like=source):
                    _send(files, source, target)
                    sent += 1
        return sent

    def lacks(self, digests: Iterable[str], cache: Cache) -> set[str]:
        """Return what of this the remote has not, or not as long as the cache has it.

        Raises:
            RemoteRefused: the remote said no, or nothing.
        """
        with self._files() as (files, root):
            return {
                digest
                for digest in sorted(digests)
                if not _is_there(files, files.join(root, *_parts(digest)), like=cache.path(digest))
            }

    def remove(self, digests: Collection[str]) -> None:
        """Remove content; what is not there is as good as removed.

        Raises:
            RemoteRefused: it may be there yet.
        """
        with self._files() as (files, root):
            for digest in sorted(digests):
                _remove_from(files, files.join(root, *_parts(digest)))

    @contextmanager
    def _files(self) -> Iterator[tuple[FileSystem, str]]:
        """Lend the remote's file system and where its files begin."""
        scheme = urlsplit(self.url).scheme
        try:
            options: dict[str, Any] = {**_PATIENCE.get(scheme, {}), **self.options}
            kind, options, root = get_cloud_fs({}, url=self.url, **options)
            if scheme == "ssh":  # DVC's own client would ask whoever sits at the terminal for a password
                options["client_factory"] = SSHClient
            yield kind(**options), root
        except _MISSING as error:
            raise RemoteRefused(f"{self.url}: {error}: pip install 'dvc[{scheme}]'") from error
        except _refusals() as error:
            raise RemoteRefused(f"{self.url}: {type(error).__name__}: {error}") from error


def configuration(remote: Remote | None) -> dict[str, bytes]:
    """Return the files that make a directory DVC's, as path: content."""
    config = "[core]\n    analytics = false\n"
    if remote:
        config += f"    remote = storage\n['remote \"storage\"']\n    url = {remote.url}\n"
    ignored = b"/config.local\n/tmp\n/cache\n"
    return {".dvc/config": config.encode(), ".dvc/.gitignore": ignored, ".dvcignore": b""}


def digest_of(path: Path) -> str:
    """Return the name that DVC gives a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def pointer_to(files: Mapping[str, Path], digests: Mapping[str, str]) -> bytes:
    """Return the `.dvc` file for files at these paths beside it."""
    outs = [
        _OUT.format(digests[path], files[path].stat().st_size, json.dumps(path)) for path in sorted(files)
    ]
    return "".join(["outs:\n", *outs]).encode()


def pointed_to(pointer: bytes) -> dict[str, str]:
    """Return what a pointer of ours names, as path: digest."""
    return {json.loads(path): digest for digest, _, path in _OUTS.findall(pointer.decode())}


def _refusals() -> tuple[type[Exception], ...]:
    """Return what remotes raise when they say no; a kind's own errors, if its library is loaded."""
    loaded = ((sys.modules[name], error) for name, error in _REFUSALS_OF.items() if name in sys.modules)
    return (*_REFUSALS, *(getattr(module, error) for module, error in loaded))


def _parts(digest: str) -> tuple[str, str, str, str]:
    return ("files", "md5", digest[:2], digest[2:])


def _copy(source: Path, target: Path) -> None:
    """Copy a file to where it appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(target)
    part.unlink(missing_ok=True)
    try:
        with source.open("rb") as whole, part.open("xb") as copy:
            copyfileobj(whole, copy)
            copy.flush()
            os.fsync(copy.fileno())
        part.chmod(0o444)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _remove(target: Path) -> None:
    target.unlink(missing_ok=True)
    _part(target).unlink(missing_ok=True)


def _is_there(files: FileSystem, path: str, *, like: Path) -> bool:
    """Say whether a file is there, of the length of this one if it exists."""
    try:
        length = files.info(path)["size"]
    except FileNotFoundError:
        return False
    return length is None or not like.exists() or bool(length == like.stat().st_size)


def _send(files: FileSystem, source: Path, target: str) -> None:
    if isinstance(files, LocalFileSystem):
        _copy(source, Path(target))
    else:
        files.makedirs(files.parent(target))
        files.put_file(str(source), target)


def _remove_from(files: FileSystem, path: str) -> None:
    if isinstance(files, LocalFileSystem):
        _remove(Path(path))
    elif isinstance(files, HTTPFileSystem):
        sync(files.fs.loop, _delete, files.fs, path)
    elif files.exists(path):
        files.rm(path)


async def _delete(files: AsyncFileSystem, url: str) -> None:
    """Do what fsspec's HTTP file system cannot, in its own session, which has the password and the certificates."""
    session = await files.set_session()
    async with session.delete(url) as answer:
        if answer.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            answer.raise_for_status()
