"""Signs feedback tokens, with nothing but the standard library: a host's backend does it too, without asking us."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass

VERSION = "v1"
DAYS = 30
MAX_NAME = 200


class BadToken(ValueError):
    """A text is no feedback token, or was not signed with this key."""


@dataclass(frozen=True, slots=True)
class FeedbackToken:
    """The right to give feedback on one response; times are Unix seconds.

    `kid` names the key that signed it, `response` is our id or the host's external one, `sha256` is `text_sha256` of
    what was answered, `subject` a pseudonym of who may speak.
    """

    kid: str
    project: str
    response: str
    sha256: str
    model: str | None
    subject: str | None
    iat: int
    exp: int


def sign(
    key: str,
    project: str,
    response: str,
    text: str,
    *,
    model: str | None = None,
    subject: str | None = None,
    days: float = DAYS,
    now: float | None = None,
) -> str:
    """Return the token for the reader of an answer; `key` is what `errata keys rotate` printed, once.

    `response` is the `external_id` under which the answer is logged, before or after.
    """
    issued = int(time.time() if now is None else now)
    until = issued + int(days * 86_400)
    about = FeedbackToken(
        kid_of(key), project, response, text_sha256(text), model, subject, iat=issued, exp=until
    )
    return seal(about, key)


def seal(token: FeedbackToken, key: str) -> str:
    """Return `v1.<base64url payload>.<base64url HMAC-SHA256>`."""
    payload = encode(json.dumps(asdict(token), separators=(",", ":"), sort_keys=True).encode())
    return f"{VERSION}.{payload}.{encode(_mac(payload, key))}"


def kid_of(key: str) -> str:
    """Return the id of a signing key, which stands in it: `etk_<kid>_<secret>`."""
    return key.split("_", 2)[1]


def text_sha256(text: str) -> str:
    """Return the hash of an answer's text, in UTF-8."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read(text: str) -> FeedbackToken:
    """Return what a text says, which proves nothing: only its `kid` tells by which key to check it.

    Raises:
        BadToken: it is not what `sign` makes.
    """
    version, _, rest = text.partition(".")
    payload, _, _ = rest.partition(".")
    try:
        said = json.loads(decode(payload))
        token = FeedbackToken(**said)
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise BadToken("damaged") from error
    if version != VERSION or not all(type(value) in _allowed(name) for name, value in said.items()):
        raise BadToken("damaged")
    names = [value for value in said.values() if isinstance(value, str)]
    if not token.response or any(len(name) > MAX_NAME or not _is_plain(name) for name in names):
        raise BadToken("damaged")
    return token


def is_signed(text: str, key: str) -> bool:
    """Compare in constant time."""
    payload, _, mac = text.partition(".")[2].partition(".")
    return hmac.compare_digest(encode(_mac(payload, key)).encode(), mac.encode())


def encode(data: bytes) -> str:
    """Write bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Read what `encode` wrote."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _allowed(name: str) -> tuple[type, ...]:
    """Return what a member may be; a boolean is no number."""
    if name in ("iat", "exp"):
        return (int,)
    return (str, type(None)) if name in ("model", "subject") else (str,)


def _is_plain(name: str) -> bool:
    return "\0" not in name and not any("\ud800" <= letter <= "\udfff" for letter in name)


def _mac(text: str, key: str) -> bytes:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).digest()
