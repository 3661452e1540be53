"""What we sign and hash: feedback tokens, status links, API keys and people's tokens."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass

from service.errors import TokenExpired, TokenInvalid
from service.secrets import Secrets

_VERSION = "v1"
CLOCK_SKEW_SECONDS = 300


@dataclass(frozen=True, slots=True)
class FeedbackToken:
    """The right to give feedback on one response; times are Unix seconds.

    `response` is our id or the host's external one, `sha256` the hash of the response's text.
    """

    kid: str
    project: str
    response: str
    sha256: str
    model: str | None
    subject: str | None
    iat: int
    exp: int


def sign(token: FeedbackToken, keys: Secrets) -> str:
    """Return `v1.<base64url payload>.<base64url HMAC-SHA256>`."""
    payload = _encode(json.dumps(asdict(token), separators=(",", ":"), sort_keys=True).encode())
    return f"{_VERSION}.{payload}.{_encode(_mac(payload, keys))}"


def verify(text: str, keys: Secrets, *, now: float) -> FeedbackToken:
    """Return what a genuine token says.

    Raises:
        TokenInvalid: it is forged, damaged, from the future or signed by another installation.
        TokenExpired: it was valid until its `exp`.
    """
    version, _, rest = text.partition(".")
    payload, _, mac = rest.partition(".")
    if version != _VERSION or not hmac.compare_digest(_encode(_mac(payload, keys)).encode(), mac.encode()):
        raise TokenInvalid("feedback_token: not signed by this installation")
    try:
        token = FeedbackToken(**json.loads(_decode(payload)))
    except (ValueError, TypeError, binascii.Error) as error:
        raise TokenInvalid("feedback_token: damaged") from error
    if token.kid != keys.key_id:
        raise TokenInvalid("feedback_token: signed by an unknown key")
    if token.iat > now + CLOCK_SKEW_SECONDS:
        raise TokenInvalid("feedback_token: from the future")
    if token.exp < now:
        raise TokenExpired("feedback_token: expired; ask the host for a fresh one")
    return token


def sign_status(feedback_id: str, keys: Secrets) -> str:
    """Return the secret part of a flag's status link."""
    return _encode(_mac(f"status:{feedback_id}", keys))


def is_status_link(feedback_id: str, signature: str, keys: Secrets) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(sign_status(feedback_id, keys).encode(), signature.encode())


def seal(document: str, keys: Secrets) -> str:
    """Return what shows that this installation wrote a document, and that nobody changed it since."""
    return _encode(_mac(f"document:{document}", keys))


def is_sealed(document: str, seal_of_it: str, keys: Secrets) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(seal(document, keys).encode(), seal_of_it.encode())


def new_secret(prefix: str) -> str:
    """Return a fresh random credential; `prefix` lets people and scanners tell what it is."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def derived(prefix: str, purpose: str, keys: Secrets) -> str:
    """Return a credential that can be made again from this installation's own secret."""
    return f"{prefix}_{_encode(_mac(purpose, keys))}"


def webhook_secret(target_id: str, keys: Secrets) -> str:
    """Return what signs the notices that a target gets, as Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(_mac(f'notices:{target_id}', keys)).decode()}"


def form_token(session_sha256: str, keys: Secrets) -> str:
    """Return what a form must carry to be from a page that this session was shown."""
    return _encode(_mac(f"form:{session_sha256}", keys))


def hashed(secret: str) -> str:
    """Return what is stored of a random credential; it has too many bits to be guessed from its hash."""
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _mac(text: str, keys: Secrets) -> bytes:
    return hmac.new(bytes.fromhex(keys.signing_key), text.encode(), hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
