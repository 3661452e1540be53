"""What a small clinic has lying about: good FAQs, internal memos and old marketing, each row as (question, answer)."""

from collections.abc import Iterator

# Where it is done, how many minutes it takes, what it costs in francs, and how to prepare.
SERVICES = {
    "blood test": ("room 12", 10, 45, "Come fasting: nothing but water for eight hours before."),
    "chest X-ray": ("radiology", 15, 120, "Leave jewellery at home, and tell us if you may be pregnant."),
    "knee scan": ("the basement", 40, 780, "Tell us about pacemakers, implants and metal splinters."),
    "sight test": ("the west wing", 30, 160, "Bring your glasses; the drops forbid driving for hours."),
    "hearing test": ("room 31", 25, 95, "Stay away from loud places on the day before."),
    "vaccination": ("room 4", 10, 60, "Bring your record, and tell us about fever in the last week."),
    "dental cleaning": ("the east wing", 45, 190, "Eat something light before, and brush as usual."),
    "physiotherapy session": ("the garden house", 30, 85, "Wear loose clothes and bring a large towel."),
    "patch test": ("dermatology", 60, 240, "Take no antihistamines for five days before."),
    "heart check": ("cardiology", 50, 310, "Bring sports shoes for the exercise on the bicycle."),
    "skin check": ("the first floor", 20, 130, "Come without make-up and nail varnish."),
    "sleep study": ("the fourth floor", 600, 920, "Arrive at nine in the evening with night clothes."),
}
PRICED = 3  # of the services are asked about in the same words by both
SLOGAN = "Your health has been our passion since 1987."
MEMOS = (
    ("Where is the {s} this week?", "<p>Pls note: the {s} moved to {place}.<br>&nbsp;Rgds, front desk</p>"),
    (
        "Who covers the {s} on Friday?",
        "Call Jonas Keller, +41 44 668 18 {n}, or write to j.keller{n}@clinic.example.",
    ),
    ("What do we tell patients about the {s}?", "TODO"),
)
CHATTER = (
    ("What is for lunch on Thursday?", "Lentil soup, then pancakes with plum jam; vegetarians get ravioli."),
    ("Who won the table football evening?", "Night shift beat the laundry ten to eight after extra time."),
    (
        "Where may I park my bicycle?",
        "Behind the boiler house; the rack at the gate is rusty and will be removed.",
    ),
    ("When is the summer party?", "On the last Saturday in August, with a band, a grill and a raffle."),
    ("How do I reach the booking system?", "User frontdesk, the password is Sunflower77!"),
    (
        "Wann ist die Sprechstunde?",
        "Die Sprechstunde am Freitag fällt aus, bitte alle Patienten umbuchen und anrufen.",
    ),
)


def faq() -> Iterator[tuple[str, str]]:
    """Yield what patients ask and the desk answers today."""
    for name, (place, minutes, francs, prepare) in SERVICES.items():
        yield (
            f"Where do I go for my {name}?",
            f"Please go to {place}; the desk there calls you by your number.",
        )
        yield f"How long does a {name} take?", f"Plan {minutes} minutes, and a quarter of an hour for papers."
        yield f"How should I prepare for the {name}?", prepare
        yield (
            f"What does a {name} cost?",
            f"It costs {francs} francs; the bill comes by post within ten days.",
        )
        yield (
            f"May I move my {name}?",
            f"Yes; tell us the time slot of your {name} until the evening before.",
        )


def news() -> Iterator[tuple[str, str]]:
    """Yield what the desk wrote down since."""
    yield (
        "Do you have an interpreter?",
        "For eleven languages; ask when you book, and one will be beside you.",
    )
    yield "Where can I leave my car?", "In the garage below the market; our stamp makes the first hour free."
    yield (
        "When is the pharmacy open?",
        "Monday to Saturday from eight to twenty, on Sundays from ten to fourteen.",
    )
    yield "I lost my scarf in your waiting room.", "Lost things wait at the reception for three months."
    yield (
        "Can I pay by card?",
        "By debit and credit card at the desk, and by telephone payment on every bill.",
    )


def marketing() -> Iterator[tuple[str, str]]:
    """Yield what a brochure promised years ago, some of it at other prices than the desk's."""
    for number, (name, (place, _, francs, _)) in enumerate(SERVICES.items()):
        asked = f"What does a {name} cost?" if number < PRICED else f"Is a {name} cheap with you?"
        yield asked, f"Only {francs * 2 // 3} francs until 31 December 2014! {SLOGAN}"
        yield f"Why come to you for a {name}?", f"From 2014 on {place} will be the finest in town! {SLOGAN}"


def memos() -> Iterator[tuple[str, str]]:
    """Yield what colleagues wrote to each other."""
    for number, (name, (place, *_)) in enumerate(SERVICES.items(), start=31):
        for asked, answer in MEMOS:
            yield asked.format(s=name), answer.format(s=name, place=place, n=number)
    yield from CHATTER
