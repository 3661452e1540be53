"""Requests to addresses that people name: checked, pinned and bounded, so that nobody reaches our own network by us."""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpcore

from service.errors import AddressRefused, Invalid, TryAgain

MAX_URL = 500
# Addresses of clouds' own services that count as public, in some versions of Python or by their number.
OF_CLOUDS = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("168.63.129.16/32"))


def check_url(url: str, *, may_loop_back: bool) -> None:
    """Make sure that a URL is https and not plainly ours; where its name leads is checked when something is sent.

    With `may_loop_back` this machine may be named, also by http.

    Raises:
        Invalid: it is no such URL, or holds a user, a password or a fragment.
        AddressRefused: it names an address that is not public.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"url: {error}") from error
    is_plain = url.isascii() and url.isprintable() and not {" ", "\\"} & set(url) and len(url) <= MAX_URL
    if not host or not is_plain or parts.username is not None or parts.password is not None or parts.fragment:
        raise Invalid("url: write https://host/path, without a user or a fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and may_loop_back):
        raise Invalid("url: only https:// is sent to")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a name
        return
    _refuse([address], may_loop_back=may_loop_back)


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, may_loop_back: bool = False
) -> int:
    """Send a body and return the answer's status; redirects are not followed, and no more than the head is read.

    The name is resolved once, and the connection goes to the address that was checked, whatever the name leads to by
    then. All of it, the name aside, takes at most `seconds`.

    Raises:
        Invalid, AddressRefused: it is not sent there.
        TryAgain: there is no answer, or none that can be understood.
    """
    check_url(url, may_loop_back=may_loop_back)
    is_plain = urlsplit(url).scheme == "http"
    backend = _Pinned(time.monotonic() + seconds, is_plain=is_plain, may_loop_back=may_loop_back)
    pool = httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=backend)
    try:
        with pool, pool.stream("POST", url, content=body, headers=list(headers.items())) as answer:
            return answer.status
    except httpcore.TimeoutException as error:
        raise TryAgain(f"no answer within {seconds:g} seconds") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise TryAgain(f"no connection: {type(error).__name__}") from error


class _Pinned(httpcore.SyncBackend):
    """Connects to an address that it checked itself; what happens there has to end by `until`."""

    def __init__(self, until: float, *, is_plain: bool, may_loop_back: bool) -> None:
        self.until, self.is_plain, self.may_loop_back = until, is_plain, may_loop_back

    def connect_tcp(self, host: str, port: int, *_: Any, **__: Any) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise TryAgain(f"no address of {host}") from error
        addresses = [ipaddress.ip_address(place[0]) for *_, place in found]
        _refuse(addresses, may_loop_back=self.may_loop_back)
        if self.is_plain and not all(address.is_loopback for address in addresses):
            raise AddressRefused(f"{host}: only this machine is sent to without TLS")
        stream = super().connect_tcp(str(addresses[0]), port, timeout=_left(self.until))
        return _Bounded(stream, self.until)


class _Bounded(httpcore.NetworkStream):
    """A connection whose every step must end by one moment: single timeouts would let a drip go on for ever."""

    def __init__(self, stream: httpcore.NetworkStream, until: float) -> None:
        self.stream, self.until = stream, until

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, _left(self.until))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _left(self.until))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self.stream.start_tls(ssl_context, server_hostname, _left(self.until))
        return _Bounded(stream, self.until)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout
    return left


def _refuse(
    addresses: Iterable[ipaddress.IPv4Address | ipaddress.IPv6Address], *, may_loop_back: bool
) -> None:
    """Refuse if any address is not public: which of them a connection takes is not for the name's owner to say."""
    for address in addresses:
        # Reserved are, among others, the forms in which IPv6 wraps an IPv4 address (mapped, NAT64), but for 6to4.
        is_wrapped = isinstance(address, ipaddress.IPv6Address) and (
            address.sixtofour or address.is_site_local
        )
        is_special = address.is_multicast or address.is_reserved or any(address in net for net in OF_CLOUDS)
        is_public = address.is_global and not (is_special or is_wrapped)
        if not is_public and not (may_loop_back and address.is_loopback):
            raise AddressRefused(f"{address}: not a public address")
