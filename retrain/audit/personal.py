"""Finds people's data and secrets, which a model learns by heart and tells to anybody.

Catches: keys, tokens, private keys and passwords; bank account, card and identity numbers, the first two by their
checksums (all of these block); e-mail and IP addresses and telephone numbers (these warn); placeholders in answers,
which would be learned as if they were words.
Misses: names, postal addresses, dates of birth, numbers without a known form, passwords of letters alone in mid-line,
and telephone numbers without a leading 0, + or the American form. Contact data that stands in five answers or
more counts as published.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from retrain.amounts import how_many
from retrain.audit.context import NOTHING, Context
from retrain.audit.finding import Check, Finding, Severity, drop
from retrain.choosing import has_placeholder
from retrain.types import Example

CHECK = Check("personal", version=2)


def find(examples: Sequence[Example], context: Context = NOTHING, *, published: int = 5) -> list[Finding]:
    """Return one finding per kind of personal text, and one for placeholders; `published` is a count of answers."""
    answered = [found_in([row.answer]) for row in examples]
    uses = Counter(value for found in answered for values in found.values() for value in values)
    keys: defaultdict[str, list[str]] = defaultdict(list)
    for row, in_answer in zip(examples, answered, strict=True):
        others = found_in([row.rejected or "", *(message.content for message in row.messages)])
        for form in _FORMS:
            values = in_answer[form.name] | others[form.name]
            if form.severity is Severity.WARN:
                values = {value for value in values if uses[value] < published}
            if values:
                keys[form.name].append(row.key)
    found = [
        _finding(form.severity, keys[form.name], f"hold {form.name}") for form in _FORMS if keys[form.name]
    ]
    masked = [row.key for row in examples if has_placeholder(row.answer)]
    return found + (
        [_finding(Severity.WARN, masked, "answer with a placeholder for personal data")] if masked else []
    )


def blocking(texts: Iterable[str]) -> str | None:
    """Return what stands in the texts that stops a training, such as "a password"; None when nothing does."""
    found = found_in(texts)
    return next((form.name for form in _FORMS if form.severity is Severity.BLOCK and found[form.name]), None)


def found_in(texts: Iterable[str]) -> defaultdict[str, set[str]]:
    """Return, by form, what of each stands in the texts; what one form took, the next does not see."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        left = text if _HINT.search(text) else ""
        for form in _FORMS if left else ():
            for match in form.pattern.finditer(left):
                if form.is_valid(match[0]):
                    found[form.name].add(match[0])
            for value in found[form.name]:
                left = left.replace(value, " ; ")
    return found


def replaced(text: str, placeholder: Mapping[str, str]) -> tuple[str, Counter[str]]:
    """Return a text with placeholders, by the name of the form, in place of what is personal, and how many of each."""
    counts: Counter[str] = Counter()
    if not _HINT.search(text):
        return text, counts
    for form in _FORMS:
        put = partial(_put, form=form, placeholder=placeholder, counts=counts)
        text = form.pattern.sub(put, text)
    return text, counts


def _put(match: re.Match[str], form: "_Form", placeholder: Mapping[str, str], counts: Counter[str]) -> str:
    if not form.is_valid(match[0]):
        return match[0]
    counts[form.name] += 1
    return placeholder[form.name]


def _is_iban(text: str) -> bool:
    """Check a number by ISO 13616; a pattern may have taken a word behind it along."""
    return any(_is_97(candidate.replace(" ", "")) for candidate in (text, text.rpartition(" ")[0]))


def _is_97(number: str) -> bool:
    return (
        len(number) >= 15 and int("".join(str(int(char, 36)) for char in number[4:] + number[:4])) % 97 == 1
    )


def _is_card(text: str) -> bool:
    """Check a number by Luhn's formula (ISO/IEC 7812-1)."""
    digits = [int(char) for char in reversed(text) if char.isdigit()]
    total = sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return 13 <= len(digits) <= 19 and total % 10 == 0 and len(set(digits)) > 1


def _is_address(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _is_telephone(text: str) -> bool:
    return 9 <= sum(char.isdigit() for char in text) <= 15 and not _DATE.match(text)


def _finding(severity: Severity, keys: Sequence[str], what: str) -> Finding:
    rows = set(keys)
    repair = (
        "Leave these rows out, or correct them where they come from and settle them again; renew a secret."
    )
    return CHECK.found(rows, how_many(len(rows), "row", what), repair, drop(rows), severity=severity)


@dataclass(frozen=True, slots=True)
class _Form:
    name: str
    severity: Severity
    pattern: re.Pattern[str]
    is_valid: Callable[[str], bool] = bool


_HINT = re.compile(r"\d|@|PRIVATE KEY|(?i:passw|secret|token|login|pwd)")
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{4}-\d\d-\d\d")
_SECRET = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{40,}|\bglpat-[\w-]{20}|\bhf_\w{30,}"
    r"|\be[ps]k_[\w-]{20,}|\betk_\w{8}_[\w-]{20,}|\b[sprw]k[-_](?:(?:live|test|proj|ant)[-_])?[\w-]{16,}|\bxox[abeoprs]-[\w-]{10,}|\bAIza[\w-]{35}"
    r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?i:bearer)\s+(?=[\w.~+/-]*\d)[\w.~+/-]{20,}"
    r"|(?i:\b(?:api|access|secret)[ _-]?(?:key|token)|\btoken|\bsecret)['\"]?\s*(?:is\s|[:=])\s*['\"]?"
    r"(?=[\w./+-]*\d)[\w./+-]{12,}"
)
_PASSWORD = re.compile(
    r"\b(?:password|passwd|passwort|passcode|passphrase|pwd|pin)\b['\"]?\s*(?:is\s|[:=])\s*['\"]?"
    r"(?:(?=[^\s,;]*\d)[^\s,;'\"]{4,}|(?<=[:=]\s)[^\s,;.'\"]{3,}(?=['\"]?[.,;]?\s*$)|(?<=[:=])[^\s,;.'\"]{3,}(?=['\"]?[.,;]?\s*$))",
    re.IGNORECASE | re.MULTILINE,
)
_TELEPHONE = re.compile(
    r"(?<![\w.,/+-])(?<!\d )(?:\+\d{1,3}(?:[ ./-]{0,2}\(?\d{1,5}\)?){2,6}"
    r"|00[1-9]\d{0,2}(?:[ ./-]\(?\d{1,5}\)?){2,6}"
    r"|\(?0\d{1,5}\)?(?:[ /-]{1,3}\d{2,8}){1,5}"
    r"|(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4})(?![\w%€$£]|[.,-]\d)"
)
_FORMS = (
    _Form("a secret key or token", Severity.BLOCK, _SECRET),
    _Form("a password", Severity.BLOCK, _PASSWORD),
    _Form(
        "a bank account number",
        Severity.BLOCK,
        re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
        _is_iban,
    ),
    _Form(
        "a payment card number",
        Severity.BLOCK,
        re.compile(r"(?<![\w.,+-])[2-6]\d{3}(?:[ -]?\d{3,6}){2,4}(?![\w-])"),
        _is_card,
    ),
    _Form(
        "an identity number",
        Severity.BLOCK,
        re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"),
    ),
    _Form(
        "an e-mail address",
        Severity.WARN,
        re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[^\W\d]{2,24}\b"),
    ),
    _Form(
        "an IP address",
        Severity.WARN,
        re.compile(
            r"(?<![\w.:])(?<!ersion )(?:\d{1,3}(?:\.\d{1,3}){3}"
            r"|[0-9a-fA-F]{1,4}(?::{1,2}[0-9a-fA-F]{1,4}){3,7})(?![\w:]|\.\d)"
        ),
        _is_address,
    ),
    _Form("a telephone number", Severity.WARN, _TELEPHONE, _is_telephone),
)
