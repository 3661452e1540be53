"""How often the web is asked by the same: a process's own memory, so that it holds without Redis.

Several web processes each keep their own count. The rate is that of a leaky bucket (the generic cell rate algorithm of
ITU-T I.371): one number for each name, however often it asks.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Lock
from typing import Any

from service.errors import TooMany

MAX_NAMES = 200_000
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `count` of one name in `seconds`; a count of 0 sets no limit."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Told:
    """What whoever asks is told of the limit nearest to them; times are seconds from now."""

    limit: int
    remaining: int
    reset: int
    retry_after: int = 0


class Rates:
    """Counts names, and forgets those that were not heard of for longest."""

    def __init__(self, clock: Callable[[], float], max_names: int = MAX_NAMES) -> None:
        self.clock, self.max_names = clock, max_names
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._lock = Lock()

    def take(self, wanted: Sequence[tuple[str, Rate]]) -> Told | None:
        """Count one request under all its names, or, where it is too many, under none; None if nothing limits it."""
        now = self.clock()
        with self._lock:
            told = [self._told(name, rate, now) for name, rate in wanted if rate.count]
            if not told:
                return None
            if refused := [each for each in told if each.retry_after]:
                return max(refused, key=lambda each: each.retry_after)
            for name, rate in wanted:
                if rate.count:
                    self._full_at[name] = max(self._full_at.get(name, now), now) + rate.seconds / rate.count
                    self._full_at.move_to_end(name)
            while len(self._full_at) > self.max_names:
                self._full_at.popitem(last=False)
        return min(told, key=lambda each: each.remaining)

    def _told(self, name: str, rate: Rate, now: float) -> Told:
        used = max(self._full_at.get(name, now) - now, 0.0)  # seconds until nothing is used any more
        each = rate.seconds / rate.count
        wait = used + each - rate.seconds
        if wait > 1e-6:
            return Told(rate.count, 0, math.ceil(used), math.ceil(wait))
        return Told(rate.count, int((rate.seconds - used - each) / each + 1e-6), math.ceil(used + each))


def check(told: Told | None) -> Told | None:
    """Return it.

    Raises:
        TooMany: there were.
    """
    if told and told.retry_after:
        raise TooMany(f"too many requests: the next is taken in {told.retry_after} seconds")
    return told


def prefix(address: str) -> str:
    """Return the network that one sender may choose addresses from: /24 of IPv4, /64 of IPv6."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(ip_network(f"{found}/{24 if found.version == 4 else 64}", strict=False))


class BehindProxies:
    """WSGI middleware: who asks is whom trusted proxies name, and nobody else's word counts."""

    def __init__(self, app: Any, proxies: Iterable[Network]) -> None:
        self.app, self.proxies = app, tuple(proxies)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        said = [part.strip() for part in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
        while said and self._is_trusted(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = said.pop()
        return self.app(environ, start_response)

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)
