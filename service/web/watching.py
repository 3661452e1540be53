"""What a web process knows of itself: which requests are under way, and what became of flags and webhooks."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from flask import Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram

# By then whoever asked has been told 504 by the proxy: what still goes on serves nobody, and holds a thread.
STUCK_SECONDS = 600.0
FLAGGING = {"feedback.give", "forms.give"}
HOOKS = {"hooks.label_studio", "hooks.argilla"}
FATES = {200: "repeated", 201: "recorded", 303: "recorded", 204: "taken", 429: "limited"}
RESULTS = {
    "flags": ("recorded", "repeated", "limited", "refused", "failed"),
    "hooks": ("taken", "refused", "failed"),
}
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(slots=True)
class Watch:
    """Which requests are under way, and what came of flags and webhooks since the process began."""

    clock: Callable[[], float] = time.monotonic
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    flags: Counter = field(init=False)
    hooks: Counter = field(init=False)
    seconds: Histogram = field(init=False)
    _under_way: dict[int, float] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=count)

    def __post_init__(self) -> None:
        own = self.registry
        self.flags = Counter(
            "flags_total", "Flags that came, by what became of them", ["result"], registry=own
        )
        self.hooks = Counter("webhook_in_total", "Annotation tools' webhooks", ["result"], registry=own)
        self.seconds = Histogram("ingest_seconds", "How long flags took", buckets=SECONDS, registry=own)
        for result in RESULTS["flags"]:
            self.flags.labels(result)
        for result in RESULTS["hooks"]:
            self.hooks.labels(result)

    def begin(self) -> tuple[int, float]:
        """Note that a request is under way."""
        number, now = next(self._numbers), self.clock()
        self._under_way[number] = now
        return number, now

    def end(self, number: int) -> None:
        """Note that a request has ended."""
        self._under_way.pop(number, None)

    def is_stuck(self) -> bool:
        """Say whether a request goes on for so long that its thread will not come back."""
        return any(self.clock() - began > STUCK_SECONDS for began in list(self._under_way.values()))


def init_app(app: Flask) -> None:
    """Have every request watched."""
    app.extensions["watch"] = Watch()
    app.before_request(_begin)
    app.after_request(_count)
    app.teardown_request(_end)


def watch() -> Watch:
    """Return the application's own watch."""
    found: Watch = current_app.extensions["watch"]
    return found


def fate(status: int) -> str:
    """Return what became of a flag or webhook that was answered so."""
    return FATES.get(status) or ("failed" if status >= 500 else "refused")


def seconds_so_far() -> float:
    """Return for how long this request has been under way."""
    began: float = g.watched[1]
    return watch().clock() - began


def _begin() -> None:
    g.watched = watch().begin()


def _count(response: Response) -> Response:
    if request.method == "POST" and request.endpoint in FLAGGING:
        watch().flags.labels(fate(response.status_code)).inc()
        watch().seconds.observe(seconds_so_far())
    elif request.endpoint in HOOKS:
        watch().hooks.labels(fate(response.status_code)).inc()
    return response


def _end(_error: BaseException | None) -> None:
    if watched := g.get("watched"):
        watch().end(watched[0])
