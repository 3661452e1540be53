"""The installation's own secrets, made at the first start and kept in one file that only its owner can read."""

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from service.errors import ConfigurationError

RESPONDER = (
    "responder"  # whose digest the web shows to it, for elsewhere than on its socket anybody could ask
)


@dataclass(frozen=True, slots=True)
class Secrets:
    """Keys that sign what we hand out: feedback tokens and status links, sessions, and the tools' webhooks.

    The earlier ones hold until the next rotation, so that processes may start anew one after the other.
    """

    key_id: str = field(default_factory=lambda: secrets.token_hex(4))
    signing_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    session_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    hook_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    earlier_session_key: str = field(default="", repr=False)
    earlier_hook_secret: str = field(default="", repr=False)

    def salted(self, text: str) -> str:
        """Return a digest that tells nobody without these secrets whether they guessed the text."""
        return hmac.new(self.signing_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def load(data_dir: Path) -> Secrets:
    """Read the secrets, or make them if this data directory has none.

    Raises:
        ConfigurationError: the directory cannot be written, or the file is damaged.
    """
    path = data_dir.resolve() / "secrets.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _write(path, Secrets())
        return Secrets(**json.loads(path.read_text()))
    except OSError as error:
        raise ConfigurationError(f"ERRATA_DATA_DIR: cannot use {data_dir}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"ERRATA_DATA_DIR: {path} is damaged: {error}") from error


def rotate(data_dir: Path) -> None:
    """Make new keys for sessions and webhooks; every process that starts from now on uses them.

    What signs feedback tokens is rotated by project, and what else hangs on the signing key is meant to last.
    """
    now = load(data_dir)
    made = Secrets(
        now.key_id,
        now.signing_key,
        earlier_session_key=now.session_key,
        earlier_hook_secret=now.hook_secret,
    )
    path = data_dir.resolve() / "secrets.json"
    _draft(path, made).replace(path)


def _write(path: Path, made: Secrets) -> None:
    """Write a complete file or none; when two processes start at once the first one's secrets stay."""
    draft = _draft(path, made)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _draft(path: Path, made: Secrets) -> Path:
    draft = path.with_name(f".secrets-{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(made), file)
        file.flush()
        os.fsync(file.fileno())
    return draft
