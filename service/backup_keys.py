"""Keys that backups are sealed with: each dies on a day, and what it sealed with it, erased people's words included."""

import base64
import binascii
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.errors import Invalid

MAGIC = b"errata sealed backup 1\n"
CHUNK = 1 << 20
SALT_BYTES, TAG_BYTES, MAX_HEADER = 7, 16, 1000


@dataclass(frozen=True, slots=True)
class Key:
    """What seals backups until a day; its file is to be destroyed by then."""

    id: str
    dies: date
    secret: bytes = field(repr=False)


def read_or_make(path: Path, *, days: int, today: date) -> Key:
    """Return a file's key, or make one that dies after so many days.

    Raises:
        Invalid: the file cannot be read or made, or the key is dead.
    """
    if not path.exists():
        key = Key(os.urandom(4).hex(), today + timedelta(days=days), AESGCM.generate_key(256))
        told = {"id": key.id, "dies": key.dies.isoformat(), "key": base64.b64encode(key.secret).decode()}
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump(told, file)
        except OSError as error:
            raise Invalid(f"key: {path}: {error.strerror or error}") from error
    return read(path, today=today)


def read(path: Path, *, today: date) -> Key:
    """Return a file's key.

    Raises:
        Invalid: the file cannot be read, or the key is dead.
    """
    try:
        told = json.loads(path.read_text())
        key = Key(told["id"], date.fromisoformat(told["dies"]), base64.b64decode(told["key"], validate=True))
        AESGCM(key.secret)
    except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise Invalid(f"key: {path}: {error}") from error
    if key.dies <= today:
        raise Invalid(
            f"key: {path}: it died on {key.dies}; destroy it, with what it sealed, and make another"
        )
    return key


def is_sealed(path: Path) -> bool:
    """Say whether a file is a sealed backup."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def seal(source: Path, target: Path, key: Key) -> None:
    """Encrypt a file in chunks, none of which can be left out, put elsewhere or cut off unnoticed."""
    header = json.dumps({"key": key.id, "dies": key.dies.isoformat()}).encode() + b"\n"
    salt, cipher = os.urandom(SALT_BYTES), AESGCM(key.secret)
    with source.open("rb") as plain, target.open("xb") as sealed:
        sealed.write(MAGIC + header + salt)
        for nonce, chunk in _chunks(plain, salt, CHUNK):
            sealed.write(cipher.encrypt(nonce, chunk, MAGIC + header))


def unseal(source: Path, target: Path, key: Key | None) -> None:
    """Decrypt a sealed file.

    Raises:
        Invalid: another key sealed it, or it is damaged.
    """
    with source.open("rb") as sealed, target.open("xb") as plain:
        header = sealed.readline() + sealed.readline(MAX_HEADER)
        named = _named(header.removeprefix(MAGIC))
        if key is None or key.id != named:
            raise Invalid(f"{source}: sealed with the key {named}: name its file by --key")
        salt, cipher = sealed.read(SALT_BYTES), AESGCM(key.secret)
        try:
            for nonce, chunk in _chunks(sealed, salt, CHUNK + TAG_BYTES):
                plain.write(cipher.decrypt(nonce, chunk, header))
        except (InvalidTag, ValueError) as error:
            raise Invalid(f"{source}: damaged, or sealed with another key") from error


def _named(header: bytes) -> str:
    try:
        return str(json.loads(header)["key"])
    except (ValueError, KeyError, TypeError):
        return "of a damaged header"


def _chunks(file: BinaryIO, salt: bytes, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield each chunk with a nonce that names its place, and the last one as the last."""
    number, chunk = 0, file.read(size)
    while True:
        after = file.read(size)
        yield salt + number.to_bytes(4, "big") + (b"\0" if after else b"\1"), chunk
        if not after:
            return
        number, chunk = number + 1, after
