"""Every way in which the world fails us, how we stand it, and the tests that show it.

`./run test` runs each small, `./run bench faults` in full.
"""

from tests.faults.fault import Fault
from tests.faults.machines import MACHINES
from tests.faults.world import WORLD

FAULTS: tuple[Fault, ...] = (*MACHINES, *WORLD)
