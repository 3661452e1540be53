"""What we sign and hash: feedback tokens, status links, API keys and people's tokens."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from service.client import signing
from service.client.signing import FeedbackToken, encode
from service.errors import TokenExpired, TokenInvalid
from service.secrets import Secrets

CLOCK_SKEW_SECONDS = 300


def verify(text: str, keys: Mapping[str, str], *, now: float) -> FeedbackToken:
    """Return what a genuine token says; `keys` are the project's that hold, by their ids.

    Raises:
        TokenInvalid: it is forged, damaged, from the future or signed by a key that does not hold.
        TokenExpired: it was valid until its `exp`.
    """
    try:
        token = signing.read(text)
    except signing.BadToken as error:
        raise TokenInvalid(f"feedback_token: {error}") from error
    if token.kid not in keys:
        raise TokenInvalid("feedback_token: signed by an unknown key, or one that holds no more")
    if not signing.is_signed(text, keys[token.kid]):
        raise TokenInvalid("feedback_token: not signed by its key")
    if token.iat > now + CLOCK_SKEW_SECONDS:
        raise TokenInvalid("feedback_token: from the future")
    if token.exp < now:
        raise TokenExpired("feedback_token: expired; ask the host for a fresh one")
    return token


def signing_key(project: str, kid: str, keys: Secrets) -> str:
    """Return what signs a project's feedback tokens under an id; its host may have it, for it signs nothing else."""
    return derived(f"etk_{kid}", f"feedback tokens:{project}:{kid}", keys)


def sign_status(feedback_id: str, keys: Secrets) -> str:
    """Return the secret part of a flag's status link."""
    return encode(_mac(f"status:{feedback_id}", keys))


def is_status_link(feedback_id: str, signature: str, keys: Secrets) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(sign_status(feedback_id, keys).encode(), signature.encode())


def seal(document: str, keys: Secrets) -> str:
    """Return what shows that this installation wrote a document, and that nobody changed it since."""
    return encode(_mac(f"document:{document}", keys))


def is_sealed(document: str, seal_of_it: str, keys: Secrets) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(seal(document, keys).encode(), seal_of_it.encode())


def new_secret(prefix: str) -> str:
    """Return a fresh random credential; `prefix` lets people and scanners tell what it is."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def derived(prefix: str, purpose: str, keys: Secrets) -> str:
    """Return a credential that can be made again from this installation's own secret."""
    return f"{prefix}_{encode(_mac(purpose, keys))}"


def webhook_secret(target_id: str, keys: Secrets) -> str:
    """Return what signs the notices that a target gets, as Standard Webhooks writes it."""
    return f"whsec_{base64.b64encode(_mac(f'notices:{target_id}', keys)).decode()}"


def form_token(session_sha256: str, keys: Secrets) -> str:
    """Return what a form must carry to be from a page that this session was shown."""
    return encode(_mac(f"form:{session_sha256}", keys))


def hashed(secret: str) -> str:
    """Return what is stored of a random credential; it has too many bits to be guessed from its hash."""
    return f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}"


def _mac(text: str, keys: Secrets) -> bytes:
    return hmac.new(bytes.fromhex(keys.signing_key), text.encode(), hashlib.sha256).digest()
