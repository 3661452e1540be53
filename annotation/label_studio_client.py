"""How Label Studio's SDK is made and its refusals are read."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from label_studio_sdk import LabelStudio
from label_studio_sdk.core.api_error import ApiError

TIMEOUT_SECONDS = 30.0


def connected(url: str, token: str) -> LabelStudio:
    """Return the SDK, which does nothing twice."""
    # No retries: the SDK would repeat an import whose answer was lost, and so make every task twice. No
    # connection is kept: Label Studio's server sends headers and body apart, and on a used connection the
    # body then waits 40 ms for a delayed acknowledgement.
    limits = httpx.Limits(max_keepalive_connections=0)
    transport = httpx.Client(timeout=TIMEOUT_SECONDS, limits=limits, follow_redirects=True)
    return LabelStudio(  # type: ignore[no-untyped-call]
        base_url=url, api_key=token, max_retries=0, timeout=TIMEOUT_SECONDS, httpx_client=transport
    )


@contextmanager
def unless_gone() -> Iterator[None]:
    """Go on if what was asked for is not there."""
    try:
        yield
    except ApiError as error:
        if error.status_code != httpx.codes.NOT_FOUND:
            raise
