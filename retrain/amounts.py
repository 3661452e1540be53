"""How numbers of things are said, so that one thing is not said to be many."""

_ONE_DOES = {"are": "is", "have": "has"}


def how_many(count: int, noun: str, does: str = "") -> str:
    """Return such as "1 row" and "2,000 rows", or "1 row holds a password" and "2 rows hold a password".

    `does` is what many do; nouns are those with an s in the plural.
    """
    verb, space, rest = does.partition(" ")
    if count == 1 and verb:
        verb = _ONE_DOES.get(verb, f"{verb}s")
    things = f" {noun}{'s' if count != 1 else ''}" if noun else ""
    return f"{count:,}{things}{' ' if verb else ''}{verb}{space}{rest}"
