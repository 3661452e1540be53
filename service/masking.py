"""Puts placeholders in place of people's data and secrets before a text is stored; what was found is only counted."""

from collections import Counter
from collections.abc import Mapping

from retrain.audit import personal

PLACEHOLDERS = {
    "a secret key or token": "[SECRET]",
    "a password": "[PASSWORD]",
    "a bank account number": "[IBAN]",
    "a payment card number": "[CARD]",
    "an identity number": "[PERSONAL_ID]",
    "an e-mail address": "[EMAIL]",
    "an IP address": "[IP]",
    "a telephone number": "[PHONE]",
}


def masked(text: str) -> tuple[str, Counter[str]]:
    """Return a text without what names or gives away a person, and how many of each kind were in it."""
    return personal.replaced(text, PLACEHOLDERS)


class Masking:
    """Masks several texts and counts over all of them; a project may switch it off."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on
        self.counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """Return the text as it may be stored."""
        if not self.is_on:
            return text
        left, found = masked(text)
        self.counts += found
        return left

    def maybe(self, text: str | None) -> str | None:
        """Return a text that may be missing as it may be stored."""
        return self.text(text) if text else text

    def within(self, each: Mapping[str, str], name: str) -> dict[str, str]:
        """Return a document one of whose members is such a text."""
        return {**each, name: self.text(each[name])}
