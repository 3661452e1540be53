"""A bank's question-and-answer data without a fault: a few hundred rows that say different things in one voice."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import date, timedelta

from retrain.near_duplicates import clusters
from retrain.types import Example, Kind, Message, Settled, Split

PRODUCTS = {
    "current account": ("accounts", 4, 1),
    "savings account": ("accounts", 0, 2),
    "student account": ("accounts", 0, 1),
    "business account": ("accounts", 12, 3),
    "debit card": ("cards", 15, 5),
    "credit card": ("cards", 49, 7),
    "prepaid card": ("cards", 9, 4),
    "mortgage": ("loans", 250, 21),
    "car loan": ("loans", 90, 6),
    "consumer loan": ("loans", 60, 3),
    "travel insurance": ("insurance", 35, 2),
    "home insurance": ("insurance", 120, 10),
    "securities depot": ("investing", 20, 8),
    "savings plan": ("investing", 0, 4),
    "pension plan": ("investing", 30, 30),
}
LABELS = sorted({label for label, _, _ in PRODUCTS.values()})
SITUATIONS = (
    *("after moving abroad", "before the end of the year", "when two people share it", "for a minor"),
    *("with an employer in another country", "during parental leave", "after a change of name"),
    *("while the branch is closed", "without the original contract", "from the mobile application"),
    *("with a foreign passport", "after retirement", "if I lost my telephone", "for my late father"),
)
INTENTS = (
    (
        "How do I open a {p} {s}?",
        "Bring your passport and proof of address; a new {p} is ready in {d} working days.",
    ),
    (
        "What does a {p} cost {s}?",
        "The yearly price of a {p} is {c} euros, charged in equal parts each quarter.",
    ),
    ("Can I cancel my {p} {s}?", "Your {p} ends {d} days after we receive a written notice."),
    ("Who may use the {p} {s}?", "The holder of the {p} may name others in a power of attorney."),
    (
        "How is the {p} protected {s}?",
        "Unusual movements on a {p} are confirmed by a call to the registered number.",
    ),
    ("Which papers does the {p} need {s}?", "We ask for three income statements before a {p} is granted."),
    (
        "How long does changing the {p} take {s}?",
        "A change to the {p} becomes effective after {d} working days.",
    ),
    (
        "Why was my {p} declined {s}?",
        "The letter about your {p} names what is missing; hand it in and we look again.",
    ),
)
WHO = (
    "your adviser",
    "the evening desk",
    "our dispute team",
    "the notary",
    "the tax office",
    "the card centre",
)
DOES = (
    "checks",
    "signs",
    "keeps",
    "translates",
    "returns",
    "stamps",
    "forwards",
    "explains",
    "records",
    "renews",
)
WHAT = (
    *("the mandate", "both copies", "the power of attorney", "your identity card", "the certificate"),
    *("the estimate", "each receipt", "the valuation", "the schedule", "the policy", "your statement"),
)
WHEN = (
    *("on Monday mornings", "by registered mail", "at the counter in Harbour Street", "within the same week"),
    *("once both signatures are there", "free of charge", "through the secure mailbox", "before a witness"),
    *("as soon as the line is quiet", "unless a holiday falls between", "together with the annual report"),
)
SOURCES = ("faq", "transcripts", "briefs")
DAY = date(2026, 6, 1)


def rows(seed: int, count: int = 600, *, kind: Kind = Kind.GENERATION) -> list[Example]:
    """Draw rows, no two of which ask or answer nearly the same; a classification's answer is the field of business."""
    chance = random.Random(seed)
    topics = [(i, p, s) for i in range(len(INTENTS)) for p in PRODUCTS for s in SITUATIONS]
    drawn = [_texts(topic, chance) for topic in chance.sample(topics, min(2 * count, len(topics)))]
    kept = [drawn[place] for place in _apart(drawn)][:count]
    return [_row(number, texts, chance, kind) for number, texts in enumerate(kept)]


def settled(rows: Iterable[Example]) -> list[Settled]:
    """Take rows back to what was settled, before they had a group and a split."""
    names = [field.name for field in fields(Settled)]
    return [Settled(**{name: getattr(row, name) for name in names if hasattr(row, name)}) for row in rows]


def _texts(topic: tuple[int, str, str], chance: random.Random) -> tuple[str, str, str]:
    intent, product, situation = topic
    label, cost, days = PRODUCTS[product]
    ask, say = INTENTS[intent]
    more = [" ".join(chance.choice(part) for part in (WHO, DOES, WHAT, WHEN)) for _ in range(2)]
    said = [say, *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in more)]
    chance.shuffle(said)
    words = {"p": product, "s": situation, "c": cost, "d": days}
    return ask.format(**words), " ".join(said).format(**words), label


def _apart(drawn: Sequence[tuple[str, str, str]]) -> list[int]:
    asked, said = (clusters([texts[part] for texts in drawn], threshold=0.7) for part in (0, 1))
    return [place for place in range(len(drawn)) if asked[place] == said[place] == place]


def _row(number: int, texts: tuple[str, str, str], chance: random.Random, kind: Kind) -> Example:
    ask, say, label = texts
    is_label = kind is Kind.CLASSIFICATION
    return Example(
        key=f"row-{number:04}",
        group=f"group-{number:04}",
        messages=(Message("user", ask),),
        answer=label if is_label else say,
        kind=kind,
        label=label if is_label else None,
        split=chance.choices(list(Split), (80, 8, 4, 8))[0],
        attributes={"region": chance.choice(("north", "south"))},
        source=chance.choice(SOURCES),
        language="en",
        written=DAY - timedelta(days=chance.randrange(300)),
    )
