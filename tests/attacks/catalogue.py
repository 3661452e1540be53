"""Every attack and bad input we know of: what must come of it, and the tests that show it.

All of them also mean: no 5xx, no traceback, nothing changed unless said.
"""

from tests.attacks.intake import FORM, IDENTITY
from tests.attacks.outside import FILES, OUTGOING, POISON, WEBHOOKS
from tests.attacks.people import ACCESS, STORED

ATTACKS = (*FORM, *IDENTITY, *STORED, *ACCESS, *WEBHOOKS, *OUTGOING, *FILES, *POISON)
