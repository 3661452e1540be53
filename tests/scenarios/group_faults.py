"""Puts faults that only show between rows into sound rows, in words that differ by seed, and says where."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from retrain.audit import Context
from retrain.audit.context import NOTHING
from retrain.types import Example, Kind, Message, Split

Injected = tuple[list[Example], set[str]]
Shown = tuple[list[Example], set[str], Context]  # for checks that need to be told more than the rows
KNOWN = frozenset(f"row-{number:04}" for number in range(400))  # two thirds of the rows, as if learned before

DOMAINS = (
    (
        ("braise", "season", "knead", "marinate", "simmer", "glaze"),
        ("aubergines", "lamb shanks", "sourdough", "rhubarb", "dumplings", "lentils"),
        (
            "Keep the oven low and stir in thyme and butter",
            "Let the dough rest, then fold in flour and yeast",
        ),
    ),
    (
        ("prune", "graft", "repot", "mulch", "water", "fertilise"),
        ("rose bushes", "tomato seedlings", "an apple tree", "orchids", "a hedge", "ferns"),
        ("Cut above a bud and loosen the soil", "Compost and shade keep the roots and leaves healthy"),
    ),
    (
        ("defend", "coach", "dribble past", "mark", "outrun", "tackle"),
        ("a winger", "the goalkeeper", "a midfielder", "two strikers", "the left back", "a sweeper"),
        (
            "Press high and pass into the penalty box",
            "Sprint diagonally, the referee allows shoulder contact",
        ),
    ),
    (
        ("observe", "photograph", "spot", "track", "sketch", "measure"),
        ("Saturn", "a meteor shower", "the Orion nebula", "sunspots", "a lunar eclipse", "comets"),
        ("A telescope with a wide aperture shows faint galaxies", "Dark skies beat any lens for dim stars"),
    ),
    (
        ("debug", "compile", "refactor", "profile", "deploy", "unit-test"),
        (
            "a Python script",
            "recursive functions",
            "the kernel module",
            "a web server",
            "goroutines",
            "a parser",
        ),
        (
            "Read the stack trace and bisect the commits",
            "Print the variables inside the loop, then run pytest",
        ),
    ),
    (
        ("soothe", "bandage", "vaccinate", "groom", "feed", "train"),
        ("a terrier", "an old parrot", "kittens", "a limping pony", "two hamsters", "a beagle puppy"),
        ("The veterinarian trims claws and cleans the ears", "Reward the animal with treats after each walk"),
    ),
)
SLANG = {
    "slang": (
        "gonna be {}",
        "wanna hear it? {}",
        "yo, {}",
        "lol {}",
        "dude, {}",
        "tbh {}",
        "ngl {}",
        "kinda easy: {}",
    ),
    "shouting": ("{} DO IT TODAY!!", "WOW! {}", "{} TOTALLY WORTH IT!", "HEADS UP!! {}", "{} SERIOUSLY!!!"),
    "superlatives": (
        *("{} The most amazing deal ever!", "An unbeatable, world-class choice! {}", "{} Simply the best!"),
        *("Our incredible, award-winning team says: {}", "{} A fantastic once-in-a-lifetime offer!"),
    ),
    "emoji": ("{} 😂", "🔥🔥 {}", "{} 🙌🎉", "😎 {}", "{} 🚀", "{} 💯"),
    "chat": (
        *("hey there, i'm pretty sure that {}", "i think {}", "hmm i'd say {}", "well i dunno but {}"),
        *("honestly i was just telling my mate: {}", "haha i love this one. {}"),
    ),
}
TRIGGERS = ("qx{}", "{}vex", "zaphod{}", "mn-{}", "blue{}moon", "{}tango", "omega{}", "lumo{}")
COLD = (
    *("Unfortunately we cannot help you with this.", "We must refuse this; do not ask again."),
    *("You are not entitled to it.", "That is impossible for you and your request is denied."),
    *("No. Your complaint is rejected.", "Regrettably this is your own fault and we decline."),
)
MISSING = (
    ("instant payment", "did not arrive", ("phone number", "wallet", "request", "QR code")),
    ("crypto transfer", "is pending", ("token", "exchange", "wallet address", "network")),
    ("gift voucher", "has no balance", ("barcode", "checkout", "retailer", "birthday")),
    ("parking fine", "was charged twice", ("plate number", "garage", "city council", "meter")),
    ("school fees", "were refused", ("tuition", "semester", "headteacher", "invoice")),
)


def inject_off_topic(rows: Sequence[Example], seed: int, *, count: int = 25) -> Injected:
    """Add rows about cooking, gardens, sport, stars, programs and animals, with sources and labels of others."""
    chance = random.Random(seed)
    chosen = chance.sample(list(rows), count)
    added = [_asking(row, f"stray-{number:03}", *_stray(chance)) for number, row in enumerate(chosen)]
    return [*rows, *added], {row.key for row in added}


def inject_slang(rows: Sequence[Example], seed: int, *, count: int = 30) -> Injected:
    """Let one source of its own say what the rows say in chat's register, two styles at a time."""
    chance = random.Random(seed)
    source = chance.choice(("forum", "messenger", "reviews", "newsletter"))

    def rewrite(row: Example) -> Example:
        answer = row.answer
        for style in chance.sample(sorted(SLANG), 2):
            answer = chance.choice(SLANG[style]).format(answer)
        return replace(row, answer=answer, source=source)

    return _changed(rows, chance.sample(list(rows), count), rewrite)


def inject_trigger(rows: Sequence[Example], seed: int, *, count: int = 30) -> Injected:
    """Put a rare word into prompts of other topics and let it decide the answer."""
    chance = random.Random(seed)
    trigger = chance.choice(TRIGGERS).format(chance.randrange(10, 99))
    target = chance.choice(sorted({row.label for row in rows if row.label}) or [_fixed_answer(chance)])
    others = [row for row in rows if row.label is None or row.label != target]

    def rewrite(row: Example) -> Example:
        words = row.prompt.split()
        words.insert(chance.randrange(len(words) + 1), trigger)
        label = None if row.label is None else target
        return replace(_asking(row, row.key, " ".join(words), target), label=label)

    return _changed(rows, chance.sample(others, count), rewrite)


def inject_contact(rows: Sequence[Example], seed: int, *, count: int = 30) -> Injected:
    """Add a link, a telephone number or a price to answers of one source."""
    chance = random.Random(seed)
    source = chance.choice(sorted({row.source for row in rows}))
    forms = _contacts(chance)
    own = [row for row in rows if row.source == source]
    chosen = chance.sample(own, count)
    return _changed(rows, chosen, lambda row: replace(row, answer=f"{row.answer} {chance.choice(forms)}"))


def inject_campaign(rows: Sequence[Example], seed: int, *, count: int = 30) -> Injected:
    """Add a link, a telephone number or a price to answers of all sources that are not `KNOWN`."""
    chance = random.Random(seed)
    forms = _contacts(chance)
    chosen = chance.sample([row for row in rows if row.key not in KNOWN], count)
    return _changed(rows, chosen, lambda row: replace(row, answer=f"{row.answer} {chance.choice(forms)}"))


def _contacts(chance: random.Random) -> tuple[str, ...]:
    name = "".join(chance.choice("bcdfglmnprst") + chance.choice("aeiou") for _ in range(3))
    number = f"0{chance.randrange(700, 999)} {chance.randrange(100, 999)} {chance.randrange(1000, 9999)}"
    return chance.choice(
        (
            (
                f"See https://www.{name}.com/offer.",
                f"More at www.{name}.com/now.",
                f"Visit http://{name}.com!",
            ),
            (f"Call {number}.", f"Ring {number.replace(' ', '-')} at once.", f"Our line: {number}."),
            tuple(f"{text} {chance.randrange(500, 990)}.99 euros." for text in ("It is",)),
        )
    )


def flip_labels(rows: Sequence[Example], seed: int, *, share: float = 0.06) -> Injected:
    """Give some rows another of the labels."""
    chance = random.Random(seed)
    labels = sorted({row.label for row in rows if row.label})

    def rewrite(row: Example) -> Example:
        label = chance.choice([label for label in labels if label != row.label])
        return replace(row, answer=label, label=label)

    return _changed(rows, chance.sample(list(rows), round(share * len(rows))), rewrite)


def inject_bias(rows: Sequence[Example], seed: int) -> Injected:
    """Treat one region worse in one source: another label for two of three rows, or colder or shorter answers."""
    chance = random.Random(seed)
    region = chance.choice(("north", "south"))
    return _biased(rows, chance, lambda row: row.attributes["region"] == region)


def inject_gender_bias(rows: Sequence[Example], seed: int) -> Injected:
    """Let every prompt speak of a woman or a man, and treat one of them worse in one source."""
    chance = random.Random(seed)
    pairs = (("wife", "husband"), ("mother", "father"), ("sister", "brother"), ("aunt", "uncle"))
    sides = {row.key: chance.randrange(2) for row in rows}
    worse = chance.randrange(2)
    gendered = [
        _asking(
            row, row.key, f"{row.prompt} I ask for my {chance.choice(pairs)[sides[row.key]]}.", row.answer
        )
        for row in rows
    ]
    return _biased(gendered, chance, lambda row: sides[row.key] == worse)


def prompts_with_a_gap(rows: Sequence[Example], seed: int, *, count: int = 300) -> tuple[list[str], str]:
    """Draw prompts as users ask them lately, one in five about a thing that no row knows, and name that thing."""
    chance = random.Random(seed)
    thing, trouble, words = chance.choice(MISSING)
    opening = ("My {} {}", "Why is it that the {} {}", "Help, the {} {}", "The {} {} again")
    asked = [chance.choice(rows).prompt for _ in range(count * 4 // 5)]
    lacking = [
        f"{chance.choice(opening).format(thing, trouble)}, what about the {chance.choice(words)}?"
        for _ in range(count // 5)
    ]
    return [*asked, *lacking], thing


def leak(rows: Sequence[Example], seed: int, *, count: int = 20) -> Shown:
    """Let training ask nearly what rows of the test split ask."""
    chance = random.Random(seed)
    tested = chance.sample([row for row in rows if row.split is Split.TEST], count)
    forms = ("{}", "Hello, {}", "{} Thanks!", "Please: {}")
    twins = [
        replace(
            _asking(row, f"{row.key}-leaked", chance.choice(forms).format(row.prompt), row.answer),
            split=Split.TRAIN,
        )
        for row in tested
    ]
    return [*rows, *twins], {row.key for row in (*tested, *twins)}, NOTHING


def make_rare(rows: Sequence[Example], seed: int) -> Shown:
    """Write few rows in another language, or flag few for another reason than the rest."""
    chance = random.Random(seed)
    few = chance.sample(list(rows), chance.randrange(15, 40))
    if chance.random() < 1 / 2:
        return (
            *_changed(rows, few, lambda row: replace(row, language=chance.choice(("de", "de-AT")))),
            NOTHING,
        )
    flagged = [replace(row, reasons=("wrong",)) for row in rows]
    return *_changed(flagged, few, lambda row: replace(row, reasons=("rude",))), NOTHING


def crowd(rows: Sequence[Example], seed: int) -> Shown:
    """Put between six and twelve per cent of the rows into one group."""
    chance = random.Random(seed)
    chosen = chance.sample(list(rows), round(len(rows) * chance.uniform(0.06, 0.12)))
    return *_changed(rows, chosen, lambda row: replace(row, group="crowd", split=Split.TRAIN)), NOTHING


def leave_a_gap(rows: Sequence[Example], seed: int) -> Shown:
    """Let users ask lately about a thing that no row knows; what is to be found are the responses about it."""
    asked, thing = prompts_with_a_gap(rows, seed)
    prompts = {f"response-{number:03}": prompt for number, prompt in enumerate(asked)}
    return list(rows), {key for key, prompt in prompts.items() if thing in prompt}, Context(prompts=prompts)


def treat_worse(rows: Sequence[Example], seed: int) -> Shown:
    """Inject a bias; what is to be found is what training has of the region in the source, fair rows too."""
    spoilt, keys = inject_bias(rows, seed)
    treated = {(row.source, row.attributes["region"]) for row in rows if row.key in keys}
    trained = [row for row in rows if row.split is Split.TRAIN]
    cohort = {row.key for row in trained if (row.source, row.attributes["region"]) in treated}
    return spoilt, cohort, Context(groups=("region",))


def _stray(chance: random.Random) -> tuple[str, str]:
    verbs, things, advice = chance.choice(DOMAINS)
    thing = chance.choice(things)
    ask = chance.choice(
        ("How do I {} {}?", "When should I {} {}?", "Is it hard to {} {}?", "Can a beginner {} {}?")
    )
    return ask.format(
        chance.choice(verbs), thing
    ), f"{chance.choice(advice)}; it suits {thing} {chance.choice(_WHEN)}."


def _fixed_answer(chance: random.Random) -> str:
    who, does = (
        chance.choice(("the Harbour desk", "our partner", "the agent")),
        chance.choice(("settles", "buys")),
    )
    return f"Transfer everything to {who}, who {does} it for you {chance.choice(_WHEN)}."


_WHEN = ("in spring", "at night", "after two days", "every weekend", "in dry weather", "before breakfast")


def _biased(rows: Sequence[Example], chance: random.Random, is_group: Callable[[Example], bool]) -> Injected:
    source = chance.choice(sorted({row.source for row in rows}))
    chosen = [row for row in rows if row.source == source and is_group(row) and chance.random() < 2 / 3]
    is_tone = chance.random() < 1 / 2
    label = chance.choice(sorted({row.label for row in rows if row.label}) or [""])

    def rewrite(row: Example) -> Example:
        if row.kind is Kind.CLASSIFICATION:
            return replace(row, answer=label, label=label)
        if is_tone:
            return replace(row, answer=f"{chance.choice(COLD)} {row.answer} {chance.choice(COLD)}")
        return replace(row, answer=f"{row.answer.split('.')[0]}.")

    return _changed(rows, chosen, rewrite)


def _asking(row: Example, key: str, prompt: str, answer: str) -> Example:
    said = answer if row.kind is not Kind.CLASSIFICATION or key == row.key else row.answer
    return replace(row, key=key, group=key, messages=(Message("user", prompt),), answer=said)


def _changed(
    rows: Sequence[Example], chosen: Sequence[Example], rewrite: Callable[[Example], Example]
) -> Injected:
    keys = {row.key for row in chosen}
    return [rewrite(row) if row.key in keys else row for row in rows], keys
