"""What an entry of the catalogue holds, and the files that many of them name."""

from collections.abc import Sequence
from dataclasses import dataclass

KILLS = "integration/test_kills.py"
SURVIVAL = "integration/test_intake_survival.py"
QUEUE = "integration/test_queue.py"
TOOLS = "integration/test_tools.py"
PROMOTION = "integration/test_promotion.py"
BACKUPS = "integration/test_backups.py"
LIMITS = "faults/test_limits.py"
NETWORK = "faults/test_network.py"


@dataclass(frozen=True, slots=True)
class Fault:
    """One failure; `repeats` names the count in `tests.repetitions` that the bench raises.

    `control` are the tests that keep those of `shown_by` from passing whatever happens: the mechanism is off and the
    loss is seen, or nothing is wrong and all goes through. Without any, `no_control` says where that stands instead.
    `bench` has the full counts where that takes long; `lacks` says what nobody has shown.
    """

    number: int
    what: str
    mechanism: str
    injected: str
    shown_by: Sequence[str]
    control: Sequence[str] = ()
    no_control: str = ""
    repeats: str = ""
    bench: str = ""
    lacks: str = ""
