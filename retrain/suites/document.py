"""What a behavioural suite is written as: one JSON document of sentences, templates and lexicons."""

import json
import re
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from retrain.errors import WrongSuite
from retrain.suites.transform import TRANSFORMS
from retrain.types import sha256_of

PLACE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")
Fill = str | dict[str, str]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Turn(_Part):
    """One earlier turn of a conversation."""

    role: Literal["user", "assistant"]
    content: str = Field(min_length=1)


class Item(_Part):
    """One sentence, or a template of many: `{city}` is any of the lexicon `city`, `{city.river}` a field of it.

    `plain` is what an INV or DIR item varies; `about` is what the frame asks; `roles` say who is who, such as
    `{"plaintiff": "{name}"}`, for `role_conflation`. What an item leaves out, its suite says.
    """

    said: str = Field(min_length=1)
    plain: str = ""
    about: str = ""
    turns: list[Turn] = []
    expected: str = ""
    accepted: list[str] = []
    forbidden: list[str] = []
    slices: dict[str, str] = {}
    roles: dict[str, str] = {}

    def places(self) -> Iterator[tuple[str, str]]:
        """Yield the lexicons that it names, and their fields ("" for none), without the item's own words."""
        told = [turn.content for turn in self.turns]
        for text in (
            self.said,
            self.plain,
            self.about,
            self.expected,
            *told,
            *self.accepted,
            *self.forbidden,
            *self.roles.values(),
        ):
            yield from ((match[1], match[2] or "") for match in PLACE.finditer(text))


class SuiteDocument(_Part):
    """A suite: MFT (one answer is right), INV (a variation must not change it) or DIR (it must).

    The frame puts `{said}` and `{about}` into what is asked, under `system`, or a general prompt without it.
    `transform` varies a project's own test cases in place of items. `take` is how many cases at most are drawn.
    `flaky` names an owner, and may say why, for each sentence (as in `said`) whose case is known to waver: it is asked
    and shown, and judges nobody.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,59}$")
    title: str = ""
    about: str = ""
    type: Literal["MFT", "INV", "DIR"]
    check: Literal["contains", "words", "refuses", "complies"] | None = None
    system: str = ""
    frame: str = "{said}"
    accepted: list[str] = []
    forbidden: list[str] = []
    lexicons: dict[str, list[Fill]] = {}
    items: list[Item] = []
    transform: str = ""
    take: int = Field(default=60, ge=1, le=500)
    flaky: dict[str, Annotated[str, Field(min_length=1, max_length=200)]] = {}

    @property
    def version(self) -> str:
        """The hash of its content."""
        return sha256_of(self.model_dump(mode="json"))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        if bool(self.items) == bool(self.transform):
            yield "it needs either items or a transform"
        if self.transform and (self.type != "INV" or self.transform not in TRANSFORMS):
            yield f"an INV suite may transform by {sorted(TRANSFORMS)}, not {self.type} by {self.transform!r}"
        if (self.type == "MFT") != (self.check is not None):
            yield "an MFT suite names a check, and no other does"
        if {match[1] for match in PLACE.finditer(self.frame)} - {"about"} != {"said"}:
            yield "the frame has places for {said} and, if it asks about something, {about}, and no others"
        for item in self.items:
            yield from (f"item {item.said!r} {problem}" for problem in self._problems_of(item))

    def _problems_of(self, item: Item) -> Iterator[str]:
        if self.type != "MFT" and not item.plain:
            yield "has no plain words that it varies"
        if self.check == "contains" and not item.expected:
            yield "expects nothing"
        if self.check == "words" and not [*self.accepted, *self.forbidden, *item.accepted, *item.forbidden]:
            yield "accepts and forbids nothing"
        for name, field in item.places():
            fills = self.lexicons.get(name, [])
            if not fills:
                yield f"names a lexicon {name!r} that is missing or empty"
            if any(isinstance(fill, str) == bool(field) or (field and field not in fill) for fill in fills):
                yield f"takes {field or 'the text'!r} of {name!r}, which not all of its entries have"


class KnownDocument(_Part):
    """What a project says of itself, for metrics that ask: see `retrain.metrics.judged.Known`.

    `costs` are by expected, then by answered label; `roles` name the attributes of responses that say who is who in
    their case, such as `plaintiff`.
    """

    catalogue: list[str] = []
    identifiers: list[str] = []
    costs: dict[str, dict[str, Annotated[float, Field(ge=0, le=1_000_000)]]] = {}
    abstentions: list[str] = []
    abstains_below: float = Field(default=0.0, ge=0, le=1)
    confident: float = Field(default=0.8, gt=0, le=1)
    checklist: list[str] = []
    roles: list[Annotated[str, Field(min_length=1)]] = []

    @field_validator("identifiers")
    @classmethod
    def _are_patterns(cls, value: list[str]) -> list[str]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as wrong:
                raise ValueError(f"{pattern!r} is no pattern: {wrong}") from wrong
        return value


def read_known(document: Any) -> KnownDocument:
    """Read what a project knows from JSON.

    Raises:
        WrongSuite: with the field and what is wrong.
    """
    try:
        return KnownDocument.model_validate(document)
    except ValidationError as wrong:
        raise WrongSuite(f"known: {_told(wrong)}") from wrong


def read_suite(document: Any) -> SuiteDocument:
    """Read a suite from JSON.

    Raises:
        WrongSuite: with the suite, the field and what is wrong.
    """
    try:
        return SuiteDocument.model_validate(document)
    except ValidationError as wrong:
        name = document.get("name") if isinstance(document, dict) else None
        raise WrongSuite(f"suite {name!r}: {_told(wrong)}") from wrong


def bundled_suites() -> dict[str, SuiteDocument]:
    """Return the suites that come with Errata, by name."""
    folder = files("retrain.suites").joinpath("behaviour")
    documents = (
        json.loads(file.read_text("utf-8")) for file in folder.iterdir() if file.name != "lexicon.json"
    )
    read = (read_suite(document) for document in documents)
    return {suite.name: suite for suite in sorted(read, key=lambda suite: suite.name)}


def with_own(suites: dict[str, SuiteDocument], own: Iterable[Any]) -> dict[str, SuiteDocument]:
    """Add a project's suites; `{"extends": NAME, …}` adds items, words of lexicons and flaky sentences to one.

    Raises:
        WrongSuite: as `read_suite`; it extends none, or has the name of one that exists.
    """
    suites = dict(suites)
    for document in own:
        if isinstance(document, dict) and "extends" in document:
            name = document["extends"]
            if not isinstance(name, str) or name not in suites:
                raise WrongSuite(f"no suite is called {name!r}; there are {', '.join(sorted(suites))}")
            suites[name] = _extended(suites[name], document)
        else:
            added = read_suite(document)
            if added.name in suites:
                raise WrongSuite(f'suite {added.name!r} exists; {{"extends": "{added.name}"}} adds to it')
            suites[added.name] = added
    return suites


def _told(wrong: ValidationError) -> str:
    first = wrong.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"


def _extended(suite: SuiteDocument, document: dict[str, Any]) -> SuiteDocument:
    if foreign := document.keys() - {"extends", "items", "lexicons", "flaky"}:
        raise WrongSuite(f"suite {suite.name!r}: an extension has no {min(foreign)!r}")
    old = suite.model_dump(mode="json")
    try:
        words = {
            name: [*old["lexicons"].get(name, []), *more]
            for name, more in document.get("lexicons", {}).items()
        }
        items, flaky = [*old["items"], *document.get("items", [])], old["flaky"] | document.get("flaky", {})
    except (AttributeError, TypeError) as wrong:
        raise WrongSuite(
            f"suite {suite.name!r}: an extension adds items, lexicons and flaky: {wrong}"
        ) from wrong
    added = {"items": items, "lexicons": old["lexicons"] | words, "flaky": flaky}
    # What was drawn before stays drawn: the extension's cases come on top.
    return read_suite({**old, **added, "take": old["take"] + len(items) - len(old["items"])})
