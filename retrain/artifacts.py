"""The content-addressed store: bytes and directories are named by their hash and never overwritten."""

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from retrain import scratch
from retrain.errors import BrokenArtifact, MissingArtifact
from retrain.types import canonical_json

_NAME = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class _File:
    """A file of a stored directory."""

    path: PurePosixPath
    sha256: str
    size: int


class ArtifactStore:
    """Objects under `url`, any that fsspec knows; local ones are fsynced before they have a name.

    What is not local yet grows under `drafts`; a local store has its drafts on its own disk, to rename them.
    """

    def __init__(self, url: str, drafts: Path | None = None) -> None:
        self._files, self._root = url_to_fs(url)
        self._is_local = isinstance(self._files, LocalFileSystem)
        elsewhere = drafts or Path(tempfile.gettempdir(), "errata-unfinished")
        self._drafts = Path(self._root, "unfinished") if self._is_local else elsewhere

    def put_bytes(self, data: bytes) -> str:
        """Store bytes and return their name."""
        return self.put(io.BytesIO(data))

    def put_file(self, path: Path) -> str:
        """Store a file's content and return its name."""
        with path.open("rb") as source:
            return self.put(source)

    def put_directory(self, path: Path) -> str:
        """Store a directory's files, then a manifest that names them; return the manifest's name.

        Raises:
            BrokenArtifact: the directory holds a link or something else that is no plain file.
        """
        manifest = {}
        for each in sorted(path.rglob("*")):
            if each.is_symlink() or not (each.is_file() or each.is_dir()):
                raise BrokenArtifact(f"{each} is no plain file and cannot be stored")
            if each.is_file():
                name = each.relative_to(path).as_posix()
                manifest[name] = {"sha256": self.put_file(each), "size": each.stat().st_size}
        return self.put_bytes(canonical_json(manifest))

    def put(self, source: BinaryIO) -> str:
        """Store a stream; nobody sees the object before all of it is there. One that is damaged is replaced.

        One that is there counts as stored at this time.
        """
        with scratch.lend(self._drafts) as folder:
            draft = folder / "object"
            with draft.open("wb") as target:
                name = _copy(source, target)
                target.flush()
                os.fsync(target.fileno())
            if self._is_local and self._is_whole(name):
                os.utime(self._object(name))
            else:
                self._publish(draft, self._object(name))
        return name

    def get_bytes(self, name: str) -> bytes:
        """Return an object's content.

        Raises:
            MissingArtifact: no object has this name.
            BrokenArtifact: its content does not hash to the name.
        """
        target = io.BytesIO()
        self._read(name, target)
        return target.getvalue()

    def fetch_directory(self, name: str, destination: Path) -> None:
        """Write a stored directory to a path that does not exist yet; it appears there whole or not at all.

        Raises:
            FileExistsError: there is something at the destination.
            MissingArtifact, BrokenArtifact: as `get_bytes`, for the manifest and each of its files.
        """
        if destination.exists():
            raise FileExistsError(f"{destination} exists")
        files = _manifest(name, self.get_bytes(name))
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".fetch-") as folder:
            whole = Path(folder, "whole")
            whole.mkdir(mode=0o755)
            for file in files:
                self._fetch(file, whole / file.path)
            whole.rename(destination)

    def remove(self, name: str) -> None:
        """Remove an object; what is not there is as good as removed."""
        if self.exists(name):
            self._files.rm_file(self._object(name))

    def remove_others(self, keep: Collection[str], *, before: datetime) -> int:
        """Remove what has none of these names and was stored before a time; return how much without one is left.

        Drafts that killed writers left are removed too.
        """
        scratch.clear(self._drafts)
        self._files.invalidate_cache()
        kept, left = {self._object(name) for name in keep if _NAME.fullmatch(name)}, 0
        for path in set(self._files.find(f"{self._root}/objects")) - kept:
            if self._files.modified(path) < before:
                self._files.rm_file(path)
            else:
                left += 1
        return left

    def exists(self, name: str) -> bool:
        """Tell whether an object has this name; its content is not looked at."""
        return bool(self._files.exists(self._object(name)))

    def verify(self, name: str) -> None:
        """Read an object and compare its content with its name; raises as `get_bytes`."""
        with Path(os.devnull).open("wb") as nowhere:
            self._read(name, nowhere)

    def verify_directory(self, name: str) -> None:
        """Verify a stored directory: its manifest and each of its files."""
        for file in _manifest(name, self.get_bytes(name)):
            self.verify(file.sha256)

    def contents(self, name: str) -> list[str]:
        """Return the names of a stored directory's files; raises as `get_bytes`."""
        return [file.sha256 for file in _manifest(name, self.get_bytes(name))]

    def _object(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise MissingArtifact(f"{name!r} is no artifact's name")
        digest = name.removeprefix("sha256:")
        return f"{self._root}/objects/{digest[:2]}/{digest[2:]}"

    def _is_whole(self, name: str) -> bool:
        try:
            self.verify(name)
        except (MissingArtifact, BrokenArtifact):
            return False
        return True

    def _publish(self, draft: Path, path: str) -> None:
        if not self._is_local:
            self._files.put_file(str(draft), path)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        draft.chmod(0o644)
        draft.rename(path)
        folder = os.open(Path(path).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _read(self, name: str, target: BinaryIO) -> None:
        try:
            with self._files.open(self._object(name), "rb") as source:
                found = _copy(source, target)
        except FileNotFoundError as missing:
            raise MissingArtifact(f"there is no artifact {name}") from missing
        if found != name:
            raise BrokenArtifact(f"artifact {name} holds content that hashes to {found}")

    def _fetch(self, file: _File, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as target:
            self._read(file.sha256, target)
        path.chmod(0o644)
        if path.stat().st_size != file.size:
            raise BrokenArtifact(
                f"{file.path} has {path.stat().st_size} bytes, its manifest says {file.size}"
            )


def name_of(path: Path) -> str:
    """Return the name that a file's content would have in a store."""
    with path.open("rb") as source:
        return f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}"


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy a stream and return the name of what was copied."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return f"sha256:{digest.hexdigest()}"


def _manifest(name: str, document: bytes) -> list[_File]:
    """Parse a manifest and refuse one that is none, or that points outside its directory."""
    try:
        manifest = json.loads(document)
        return [_file(path, entry) for path, entry in manifest.items()]
    except (ValueError, AttributeError, KeyError, TypeError) as broken:
        raise BrokenArtifact(f"artifact {name} is no directory's manifest: {broken}") from broken


def _file(name: str, entry: Mapping[str, Any]) -> _File:
    path = PurePosixPath(name)
    is_inside = not path.is_absolute() and path.parts and ".." not in path.parts
    if not is_inside or "\\" in name or "\0" in name or path.as_posix() != name:
        raise ValueError(f"{name!r} leaves the directory")
    return _File(path, sha256=str(entry["sha256"]), size=int(entry["size"]))
