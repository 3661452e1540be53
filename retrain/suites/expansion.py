"""Makes cases of a suite's document: drawn by seed, no two nearly the same, each with its own key."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from random import Random

from retrain.errors import EmptySplit, WrongSuite
from retrain.near_duplicates import clusters, normalise, overlap, text_of
from retrain.suites import ask_generally
from retrain.suites.document import PLACE, Fill, Item, SuiteDocument
from retrain.suites.transform import TRANSFORMS
from retrain.types import Case, Message, sha256_of

NEAR = 0.8
_MOST_FILLS = 10_000


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite's cases; `originals` are what the cases vary, to be asked as well and not judged here.

    `version` is the hash of the document, `flaky` has an owner for the key of each case that is known to waver.
    """

    name: str
    title: str
    version: str
    cases: list[Case]
    originals: list[Case] = field(default_factory=list)
    flaky: Mapping[str, str] = field(default_factory=dict)

    @property
    def steady(self) -> list[Case]:
        """The cases that judge a model; those that waver judge none until their owner has mended them."""
        return [case for case in self.cases if case.key not in self.flaky]


def expand(
    document: SuiteDocument, *, seed: int, own: Sequence[Case] = (), has_labels: bool = False
) -> Suite:
    """Draw a suite's cases; equal arguments give equal cases.

    `own` are a project's test cases, which a suite of a transform varies. In a project of labels, items with `plain`
    words are asked as users would ask them, and must get the label that the plain words get.

    Raises:
        EmptySplit: the project has no case that the transform changes; judge without this suite.
        WrongSuite: a sentence is called flaky that is none, or a template has too many forms.
    """
    draw = Random(f"{seed}:{document.name}")
    if document.transform:
        found = list(_transformed(document, own, draw))
    else:
        items = list(_filled(document, draw))
        if unknown := document.flaky.keys() - {item.said for item in items}:
            raise WrongSuite(f"suite {document.name!r}: no case says {min(unknown)!r}, which is called flaky")
        found = list(islice(_distinct(items, document, has_labels=has_labels), document.take))
    if not found:
        raise EmptySplit(f"suite {document.name!r}: the project has no case that it could vary")
    return Suite(
        name=document.name,
        title=document.title or document.name,
        version=document.version,
        cases=[case for _, case, _ in found],
        originals=list({other.key: other for _, _, other in found if other}.values()),
        flaky={case.key: document.flaky[said] for said, case, _ in found if said in document.flaky},
    )


def leaked(cases: Iterable[Case], prompts: Sequence[str], *, threshold: float = NEAR) -> list[str]:
    """Return the keys of cases that a training prompt, as `text_of` gives it, nearly equals: they prove nothing."""
    cases = list(cases)
    named = clusters([*prompts, *(text_of(case.messages) for case in cases)], threshold=threshold)
    trained = set(named[: len(prompts)])
    return [case.key for case, name in zip(cases, named[len(prompts) :], strict=True) if name in trained]


Found = tuple[str, Case, Case | None]
"""What was said, the case made of it, and the one that it varies."""


def _transformed(document: SuiteDocument, own: Sequence[Case], draw: Random) -> Iterator[Found]:
    """Vary a project's cases, in an order of their keys; those that the transform leaves as they are do not count."""
    transform = TRANSFORMS[document.transform]
    left = document.take
    for case in draw.sample(sorted(own, key=lambda case: case.key), len(own)):
        *before, last = case.messages
        other = transform(last.content, draw)
        if left and normalise(other) != normalise(last.content):
            left -= 1
            varied = replace(
                case,
                key=f"{document.name}:{case.key}",
                suite=document.name,
                messages=(*before, replace(last, content=other)),
                check="same_label" if case.is_labelled else "same_text",
                pair=case.key,
            )
            yield last.content, varied, case


def _filled(document: SuiteDocument, draw: Random) -> Iterator[Item]:
    """Yield items with their places filled, one of each in turn, each item's fills in an order of the seed."""
    queues = []
    for item in document.items:
        names = sorted({name for name, _ in item.places()})
        fills = list(islice(product(*(document.lexicons[name] for name in names)), _MOST_FILLS + 1))
        if len(fills) > _MOST_FILLS:
            raise WrongSuite(f"suite {document.name!r}: {item.said!r} has more than {_MOST_FILLS} forms")
        draw.shuffle(fills)
        queues.append([_fill(item, dict(zip(names, each, strict=True))) for each in fills])
    for turn in range(max(map(len, queues))):
        yield from (queue[turn] for queue in queues if turn < len(queue))


def _fill(item: Item, fills: Mapping[str, Fill]) -> Item:
    def put(text: str) -> str:
        return PLACE.sub(lambda place: str(_value(fills[place[1]], place[2])), text)

    turns = [turn.model_copy(update={"content": put(turn.content)}) for turn in item.turns]
    texts = {name: put(getattr(item, name)) for name in ("said", "plain", "about", "expected")}
    words = {name: [put(word) for word in getattr(item, name)] for name in ("accepted", "forbidden")}
    roles = {role: put(name) for role, name in item.roles.items()}
    return item.model_copy(update={"turns": turns, "roles": roles, **texts, **words})


def _value(fill: Fill, name: str | None) -> str:
    return fill[name] if isinstance(fill, dict) and name else str(fill)


def _distinct(items: Iterable[Item], document: SuiteDocument, *, has_labels: bool) -> Iterator[Found]:
    """Yield the cases of items, but for those that nearly say what an earlier one does."""
    seen: list[str] = []
    for item in items:
        if has_labels and not item.plain and any(other.plain for other in document.items):
            continue
        case, other = _case(item, document, has_labels=has_labels)
        text = normalise(text_of(case.messages))
        if all(overlap(text, known) < NEAR for known in seen):
            seen.append(text)
            yield item.said, case, other


def _case(item: Item, document: SuiteDocument, *, has_labels: bool) -> tuple[Case, Case | None]:
    asked, plain = (_asked(item, said, document) for said in (item.said, item.plain))
    check: str = document.check or ("same_text" if document.type == "INV" else "other_text")
    if has_labels and item.plain and document.type != "DIR":
        asked, plain = ((Message("user", said),) for said in (item.said, item.plain))
        check = "same_label"
    case = Case(
        key=_key(document, asked),
        suite=document.name,
        messages=asked,
        expected=item.expected,
        check=check,
        slices=item.slices,
        accepted=tuple(item.accepted or document.accepted),
        forbidden=tuple(item.forbidden or document.forbidden),
        roles=item.roles,
    )
    if check == document.check:
        return case, None
    other = replace(case, key=_key(document, plain), messages=plain)
    return replace(case, pair=other.key), other


def _asked(item: Item, said: str, document: SuiteDocument) -> tuple[Message, ...]:
    words = {"said": said, "about": item.about}
    general, user = ask_generally(PLACE.sub(lambda place: words.get(place[1], place[0]), document.frame))
    system = Message("system", document.system) if document.system else general
    return (system, *(Message(turn.role, turn.content) for turn in item.turns), user)


def _key(document: SuiteDocument, messages: Sequence[Message]) -> str:
    said = [[message.role, message.content] for message in messages]
    return f"{document.name}:{sha256_of(said)[7:23]}"
