"""Spoils clean rows with known faults, in words that differ from seed to seed, to measure the checks of texts by."""

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta

from retrain.audit.context import Context, Validity
from retrain.types import Example, Message, Split

TODAY = date(2026, 9, 1)
SYNONYMS = {
    "current account": (
        "checking account",
        "giro account",
        "transaction account",
        "everyday account",
        "cheque account",
    ),
    "savings account": ("deposit account", "passbook account", "call money account", "reserve account"),
    "student account": ("campus account", "young people's account", "learner account", "scholar account"),
    "business account": ("company account", "corporate account", "trade account", "merchant account"),
    "debit card": ("bank card", "giro card", "cash card", "payment card"),
    "credit card": ("charge card", "revolving card", "Gold Card", "deferred card"),
    "mortgage": ("home loan", "property loan", "housing credit", "building loan"),
    "car loan": ("auto credit", "vehicle financing", "motor loan", "automobile credit"),
    "consumer loan": ("personal credit", "instalment credit", "private loan", "household credit"),
    "travel insurance": ("trip cover", "holiday policy", "journey protection", "traveller's cover"),
    "home insurance": ("household cover", "contents policy", "dwelling protection", "residence cover"),
    "securities depot": ("custody account", "brokerage account", "share portfolio", "investment depot"),
    "savings plan": ("saver scheme", "accumulation plan", "thrift programme", "monthly saver"),
    "pension plan": ("retirement scheme", "old-age provision", "annuity programme", "superannuation"),
}
GONE = (
    "Flexi Saver",
    "Blue Horizon bond",
    "StudentPlus 2010",
    "Family Guard cover",
    "Premio depot",
    "QuickCredit",
)
VALID = ("Mobile Saver", "Green bond")
CONTEXT = Context(
    today=TODAY,
    validity=(
        *(
            Validity(name, date(2009, 1, 1), date(2014 + place, 6, 30))
            for place, name in enumerate(GONE[:-1])
        ),
        Validity(GONE[-1], valid_from=date(2027, 1, 1)),
        *(Validity(name, date(2020, 1, 1)) for name in VALID),
    ),
)
GLOSSARY = Context(glossary=SYNONYMS)
FAULTS = ("terminology", "boilerplate", "outdated", "contradictions", "duplicates", "personal", "noise")

Truth = dict[str, set[str]]


def inject(rows: Sequence[Example], seed: int) -> tuple[list[Example], Truth]:
    """Return rows with every fault and, by check, the keys of the rows that have it.

    3 synonyms for each of 5 concepts, 15 % boilerplate, 40 expired facts, 30 contradicting pairs, 50 near
    duplicates across splits, 25 personal strings and 30 noisy rows, for some 600 rows.
    """
    chance = random.Random(f"text faults {seed}")
    faults = _Faults(rows, chance)
    _add_synonyms(faults, chance)
    _add_boilerplate(faults, chance)
    _add_expired(faults, chance)
    _add_contradictions(faults, chance)
    _add_duplicates(faults, chance)
    _add_personal(faults, chance)
    _add_noise(faults, chance)
    faults.truth["terminology"] &= {key for key, row in faults.rows.items() if _says_synonym(row.answer)}
    mixed = list(faults.rows.values())
    chance.shuffle(mixed)
    return mixed, faults.truth


class _Faults:
    """The rows so far, which of them are spoilt, and which are still untouched."""

    def __init__(self, rows: Sequence[Example], chance: random.Random) -> None:
        self.rows = {row.key: row for row in rows}
        self.truth: Truth = {name: set() for name in FAULTS}
        self._fresh = [row.key for row in rows]
        chance.shuffle(self._fresh)

    def take(self, count: int) -> list[Example]:
        """Return rows that no other fault but a synonym touches."""
        return [self.rows[self._fresh.pop()] for _ in range(count)]

    def spoil(self, check: str, row: Example) -> None:
        """Put a row in the place of the one with its key."""
        self.rows[row.key] = row
        self.truth[check].add(row.key)

    def copy(self, row: Example, suffix: str, **changes: object) -> Example:
        """Add a row beside another, whose earlier faults it inherits."""
        twin = replace(row, key=f"{row.key}-{suffix}", group=f"{row.group}-{suffix}", **changes)
        for keys in self.truth.values():
            if row.key in keys:
                keys.add(twin.key)
        self.rows[twin.key] = twin
        return twin


def _ask(row: Example, prompt: str) -> tuple[Message, ...]:
    return (*row.messages[:-1], Message("user", prompt))


def _word(chance: random.Random, syllables: int = 3) -> str:
    return "".join(chance.choice("bdfgklmnprstv") + chance.choice("aeiou") for _ in range(syllables))


def _digits(chance: random.Random, count: int) -> str:
    return "".join(chance.choices(string.digits, k=count))


def _add_synonyms(faults: _Faults, chance: random.Random) -> None:
    """Write each concept's answers in four terms in turn; every fifth prompt changes along."""
    for term in chance.sample(sorted(SYNONYMS), 5):
        others = chance.sample(SYNONYMS[term], 3)
        using = [row for row in faults.rows.values() if term in row.answer]
        chance.shuffle(using)
        for place, row in enumerate(using):
            if place % 4:
                other = others[place % 4 - 1]
                prompt = row.prompt.replace(term, other) if chance.random() < 0.2 else row.prompt
                answer = row.answer.replace(term, other)
                faults.spoil("terminology", replace(row, messages=_ask(row, prompt), answer=answer))


def _says_synonym(answer: str) -> bool:
    return any(name.lower() in answer.lower() for names in SYNONYMS.values() for name in names)


def _add_boilerplate(faults: _Faults, chance: random.Random) -> None:
    bank = f"{_word(chance).title()} {chance.choice(('Bank', 'Trust', 'Savings', 'Finance'))}"
    openings = (
        f"Dear customer of {bank},",
        f"Thank you for writing to {bank}!",
        "Hello and welcome back,",
        "We are happy that you contacted us.",
        f"Good day from the {_word(chance, 2)} team,",
    )
    endings = (
        f"This message was written for {bank} without a signature and binds nobody.",
        "Kind regards, Your service team.",
        f"Please rate our service at {_word(chance)} dot example.",
        f"Your case has the number {{number}} at {bank}.",
        f"{{name}}, we hope that this answers your question to your full satisfaction at {bank}.",
        f"No liability is taken for the {_word(chance, 2)} of this information.",
    )
    forms = [
        *((True, text) for text in chance.sample(openings, 1)),
        *((False, text) for text in chance.sample(endings, 2)),
    ]
    for place, row in enumerate(faults.take(round(0.15 * len(faults.rows)))):
        is_opening, text = forms[place % len(forms)]
        said = text.format(number=_digits(chance, 5), name=_word(chance).title())
        parts = (said, row.answer) if is_opening else (row.answer, said)
        faults.spoil("boilerplate", replace(row, answer=" ".join(parts)))


def _add_expired(faults: _Faults, chance: random.Random) -> None:
    for place, row in enumerate(faults.take(40)):
        if place % 3 == 2:
            newer = faults.copy(row, "settled", written=row.written + timedelta(chance.randint(120, 900)))
            answer = _otherwise(newer.answer, chance)
            faults.spoil("contradictions", replace(newer, answer=answer))
            faults.spoil("contradictions", row)
            faults.spoil("outdated", row)
        else:
            said = _past_date(chance) if place % 3 else _gone(chance)
            faults.spoil("outdated", replace(row, answer=f"{row.answer} {said}"))
    for row in faults.take(10):
        fine = f"Those with a {chance.choice(VALID)} pay nothing; it was founded in {chance.randint(1950, 2015)}."
        faults.rows[row.key] = replace(row, answer=f"{row.answer} {fine}")


def _past_date(chance: random.Random) -> str:
    year = chance.randint(2009, 2022)
    month = chance.choice(("January", "March", "July", "October"))
    what = chance.choice(("This fee", "The offer", "Our bonus rate", "The limit", "This form"))
    return chance.choice(
        (
            f"{what} applies from {chance.randint(1, 28)} {month} {year}.",
            f"{what} is valid until {month} {year}.",
            f"As of {year}, {what[0].lower()}{what[1:]} stays the same for all branches.",
            f"{what} will change in {month} {year}.",
            f"{what} expires on {chance.randint(1, 28):02}.{chance.randint(1, 12):02}.{year}.",
            f"{what} is currently under review for {year}.",
            f"Effective {month} {chance.randint(1, 28)}, {year}, {what[0].lower()}{what[1:]} is halved.",
        )
    )


def _gone(chance: random.Random) -> str:
    name = chance.choice(GONE)
    return chance.choice(
        (
            f"We recommend our {name} with it.",
            f"Ask for the {name.upper()} at the counter.",
            f"Those who hold a {name} pay half.",
        )
    )


def _otherwise(answer: str, chance: random.Random) -> str:
    """Change a number, deny a sentence, or answer in quite other words."""
    words = answer.split()
    numbers = [place for place, word in enumerate(words) if word.strip(".,").isdigit()]
    if numbers and chance.random() < 0.7:
        place = chance.choice(numbers)
        words[place] = words[place].replace(words[place].strip(".,"), str(chance.randint(301, 999)))
        return " ".join(words)
    return chance.choice(
        (
            f"{answer.removesuffix('.')}, but this is not possible for {_word(chance)} customers.",
            f"Nobody at the {_word(chance)} desk offers that; write to {_word(chance)} {_word(chance)} instead.",
            f"Please {_word(chance)} first, then choose {_word(chance)} under settings and wait two weeks.",
        )
    )


def _reworded(prompt: str, chance: random.Random) -> str:
    return chance.choice(
        (
            prompt,
            prompt.lower(),
            f"Hello, {prompt[0].lower()}{prompt[1:]}",
            f"{prompt} Thanks!",
            f"Please: {prompt}",
            prompt.removesuffix("?"),
        )
    )


def _add_contradictions(faults: _Faults, chance: random.Random) -> None:
    for row in faults.take(30):
        twin = faults.copy(row, "against", messages=_ask(row, _reworded(row.prompt, chance)))
        faults.spoil("contradictions", replace(twin, answer=_otherwise(row.answer, chance)))
        faults.spoil("contradictions", row)


def _add_duplicates(faults: _Faults, chance: random.Random) -> None:
    for row in faults.take(50):
        split = Split.TRAIN if row.split is Split.TEST else Split.TEST
        twin = faults.copy(row, "twin", split=split, messages=_ask(row, _reworded(row.prompt, chance)))
        faults.spoil("duplicates", replace(twin, answer=_retold(row.answer, chance)))
        faults.spoil("duplicates", row)


def _retold(answer: str, chance: random.Random) -> str:
    return chance.choice(
        (
            answer,
            answer.replace(". ", ".  ").upper(),
            f"{answer} So much on {_word(chance)}.",
            f"Well, {answer[0].lower()}{answer[1:]}",
            answer.replace("our ", "the ").replace("your ", "the "),
            answer.replace(".", "!"),
        )
    )


def _add_personal(faults: _Faults, chance: random.Random) -> None:
    forms = (_mail, _telephone, _iban, _card, _identity, _address, _key, _password, _placeholder)
    for place, row in enumerate(faults.take(25)):
        form = forms[place % len(forms)]
        said = form(chance)
        if form is not _placeholder and chance.random() < 0.4:
            faults.spoil("personal", replace(row, messages=_ask(row, f"{row.prompt} {said}")))
        else:
            faults.spoil("personal", replace(row, answer=f"{row.answer} {said}"))


def _mail(chance: random.Random) -> str:
    end = chance.choice(("com", "de", "co.uk"))
    mail = f"{_word(chance)}{chance.choice('._-')}{_word(chance)}@{_word(chance)}.{end}"
    return f"{chance.choice(('Write to', 'My address is', 'Mail:'))} {mail}."


def _telephone(chance: random.Random) -> str:
    form = chance.choice(
        (
            "+49 30 #######",
            "+44 20 #### ####",
            "(415) 555-####",
            "0171/#######",
            "0041 44 ### ## ##",
            "+1-212-555-####",
            "+33 6 ## ## ## ##",
        )
    )
    number = "".join(chance.choice("23456789") if char == "#" else char for char in form)
    return f"{chance.choice(('Call', 'My number is', 'Reach me on'))} {number}."


def _iban(chance: random.Random) -> str:
    country, length = chance.choice((("DE", 18), ("NL", 0), ("AT", 16)))
    account = _digits(chance, length) or f"ABNA{_digits(chance, 10)}"
    code = int("".join(str(int(char, 36)) for char in f"{account}{country}00"))
    number = f"{country}{98 - code % 97:02}{account}"
    shown = (
        " ".join(number[at : at + 4] for at in range(0, len(number), 4)) if chance.random() < 0.5 else number
    )
    return f"Pay to {shown} please."


def _card(chance: random.Random) -> str:
    digits = f"{chance.choice('45')}{_digits(chance, 14)}"
    total = sum(sum(divmod(int(char) * (2 - place % 2), 10)) for place, char in enumerate(digits))
    number = f"{digits}{-total % 10}"
    gap = chance.choice(("", " ", "-"))
    return f"The card is {gap.join(number[at : at + 4] for at in range(0, 16, 4))}."


def _identity(chance: random.Random) -> str:
    return f"The number {chance.randint(100, 665)}-{chance.randint(10, 99)}-{chance.randint(1000, 9999)} is on file."


def _address(chance: random.Random) -> str:
    return f"It came from {'.'.join(str(chance.randint(2, 250)) for _ in range(4))} last night."


def _key(chance: random.Random) -> str:
    text = "".join(chance.choices(string.ascii_letters + string.digits, k=40))
    return chance.choice(
        (
            f"Use the api key: {text[:24]}7.",
            f"The token is ghp_{text[:36]}.",
            f"Set AKIA{text[:16].upper()} there.",
            f"Send sk-{text} along.",
            "-----BEGIN RSA PRIVATE KEY----- follows.",
        )
    )


def _password(chance: random.Random) -> str:
    return chance.choice(
        (
            f"My password is {_word(chance)}{_digits(chance, 3)}.",
            f"Password: {_word(chance)}!{_digits(chance, 2)}",
            f"The PIN is {_digits(chance, 4)}.",
            f"login bob, password={_word(chance)}.",
        )
    )


def _placeholder(chance: random.Random) -> str:
    return f"Write to {chance.choice(('[EMAIL]', '<PHONE>', '[NAME_1]', '{{IBAN}}', '[REDACTED]'))} for more."


def _add_noise(faults: _Faults, chance: random.Random) -> None:
    kinds: Sequence[Callable[[str, random.Random], str]] = (
        _marked_up,
        _cut,
        _void,
        _unfinished,
        _garbled,
        _foreign,
    )
    for place, row in enumerate(faults.take(30)):
        faults.spoil("noise", replace(row, answer=kinds[place % len(kinds)](row.answer, chance)))


def _marked_up(answer: str, chance: random.Random) -> str:
    words = answer.split()
    place = chance.randrange(2, len(words))
    words.insert(
        place,
        chance.choice(("<br>", "&nbsp;", "<b>", "[[Bank|the bank]]", "{{cite}}", '<a href="/x">here</a>')),
    )
    return chance.choice(("{}", "<p>{}</p>", '<div class="x">{}</div>')).format(" ".join(words))


def _cut(answer: str, chance: random.Random) -> str:
    words = answer.split()
    kept = words[: chance.randrange(len(words) // 2, len(words) - 1)]
    return " ".join(kept).rstrip(".,;")


def _void(answer: str, chance: random.Random) -> str:
    return chance.choice(("", " ", "-", "N/A", "none", "...", "n/a."))


def _unfinished(answer: str, chance: random.Random) -> str:
    filler = (
        "Lorem ipsum dolor sit amet.",
        "TODO: ask legal.",
        "TBD.",
        "[insert amount here] to be checked.",
        "XXX.",
    )
    return f"{answer} {chance.choice(filler)}"


def _garbled(answer: str, chance: random.Random) -> str:
    word = chance.choice(("Gebühr", "Überweisung", "naïve", "cafés", "Straße", "§ 12"))
    damaged = chance.choice(
        (
            word.encode().decode("cp1252", errors="replace"),
            word.encode().decode("latin-1"),
            word.encode("latin-1", errors="replace").decode(errors="replace") + "\ufffd",
        )
    )
    first, rest = answer.split(" ", 1)
    return f"{first} {damaged} {rest}"


def _foreign(answer: str, chance: random.Random) -> str:
    return chance.choice(
        (
            "Bitte bringen Sie Ihren Ausweis in die Filiale mit; die Bearbeitung dauert einige Tage und ist kostenlos.",
            "Veuillez apporter votre passeport à l'agence; le traitement de la demande prend quelques jours ouvrables.",
            "Traiga su pasaporte a la oficina; la solicitud tarda algunos días laborables y no tiene ningún coste.",
            "Portate il passaporto in filiale; la richiesta richiede alcuni giorni lavorativi ed è del tutto gratuita.",
            "Neem uw paspoort mee naar het kantoor; de aanvraag duurt enkele werkdagen en is voor u helemaal gratis.",
        )
    )
