"""Label Studio's labelling page: what was asked and answered, then the verdict and what follows from it."""

import html
import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

from annotation.questions import BEST_RATING, Question, QuestionType, fields, questions
from annotation.types import LabelSchema, Verdict

_BOX = "border:1px solid #ccc;border-radius:4px;padding:8px;margin:4px 0 12px;white-space:pre-wrap"
_ROW = "display:flex;flex-wrap:wrap;gap:0 32px"
_DIGITS = "1234567890"
_LETTERS = "qwertyiopasdfghjklzxcvbnm"  # without "u", which Label Studio takes itself, as it does digits with a shift
_KEYS = (
    *_DIGITS,
    *_LETTERS,
    *(f"{held}+{key}" for held in ("shift", "alt+shift") for key in _LETTERS),
    *(f"{held}+{key}" for held in ("ctrl+alt", "ctrl+alt+shift") for key in _DIGITS + _LETTERS),
)
_WRONG = {
    "visibleWhen": "choice-selected",
    "whenTagName": "verdict",
    "whenChoiceValue": str(Verdict.INCORRECT),
}

_WRAPPED = re.compile(r"\n +(?! |[-*+] |\d)")
_BOLD = re.compile(r"\*\*(\S[^*\n]*)\*\*")
_ITALIC = re.compile(r"\*([^\s*][^*\n]*)\*")

_Element = tuple[str, dict[str, str], tuple[Any, ...]]


def tags(schema: LabelSchema) -> Mapping[str, _Element]:
    """Return the sections as tag, attributes and children; the SDK builds the configuration from them."""
    return {f"section_{at}": section for at, section in enumerate([*_shown(schema), *_asked(schema)])}


def keeping_asked(config: str, before: str) -> str:
    """Return a configuration with what an earlier one asked besides, out of sight.

    Label Studio refuses to drop a question that somebody has answered.
    """
    ours = {control.get("name") for control in _controls(config)}
    gone = [control for control in _controls(before) if control.get("name") not in ours]
    for element in [element for control in gone for element in control.iter()]:
        for name in ("hotkey", "required", "requiredMessage"):
            element.attrib.pop(name, None)
        element.text = element.tail = None
    kept = "".join(ET.tostring(control, encoding="unicode") for control in gone)
    hidden = f'<View style="display:none">{kept}</View>' if kept else ""
    start, end, rest = config.rpartition("</View>")
    return f"{start}{hidden}{end}{rest}"


def instructions(markdown: str) -> str:
    """Return guidelines as HTML: lines and emphasis, and all else as it was written."""
    lines = "\n".join(markdown.strip().splitlines())
    text = _WRAPPED.sub(" ", html.escape(lines, quote=False))
    return _ITALIC.sub(r"<i>\1</i>", _BOLD.sub(r"<b>\1</b>", text)).replace("\n", "<br>")


def _controls(config: str) -> list[ET.Element]:
    root = ET.fromstring(config)  # noqa: S314 - ours, or what Label Studio keeps as such
    return [element for element in root.iter() if element.get("toName")]


def _shown(schema: LabelSchema) -> list[_Element]:
    return [
        _view(_header(title), _view(("Text", {"name": name, "value": f"${name}"}, ()), style=_BOX))
        for name, title in fields(schema).items()
    ]


def _asked(schema: LabelSchema) -> list[_Element]:
    """Return a section for the verdict, for what is asked about a wrong response, and for what is rated and marked."""
    asked, keys = questions(schema), _keys(schema)
    verdict, *others = asked
    wrong = [part for question in others if question.is_about_wrong for part in _parts(question, keys)]
    rest = [_view(*_parts(question, keys)) for question in others if not question.is_about_wrong]
    return [
        _view(*_parts(verdict, keys)),
        *([_view(*wrong, **_WRONG)] if wrong else []),
        *([_view(*rest, style=_ROW)] if rest else []),
    ]


def _keys(schema: LabelSchema) -> dict[tuple[str, str], str]:
    """Return a key for each choice, by question: labels come last, as there may be more of them than keys."""
    asked = questions(schema)
    few = [question for question in asked if not question.name.startswith("label")]
    many = [question for question in asked if question not in few]
    places = [(q.name, choice) for q in [*few, *many] for choice in q.choices or [""] if _has_keys(q)]
    return dict(zip(places, _KEYS, strict=False))


def _has_keys(question: Question) -> bool:
    return question.type is not QuestionType.TEXT


def _parts(question: Question, keys: Mapping[tuple[str, str], str]) -> Iterator[_Element]:
    is_rating = question.type is QuestionType.RATING
    title = f"{question.title}: {question.hint}" if question.hint else question.title
    yield _header(title, size="6" if is_rating else "5")
    control = {"name": question.name, "toName": "response"}
    if question.type is QuestionType.TEXT:
        text = {
            "rows": "6",
            "editable": "true",
            "maxSubmissions": "1",
            "placeholder": "What should have been said",
        }
        yield ("TextArea", control | text, ())
    elif is_rating:
        hotkey = _hotkey(question, "", keys)
        yield ("Rating", control | {"maxRating": str(BEST_RATING)} | hotkey, ())
    else:
        tag, inner, attributes = _LISTED[question.type]
        if question.is_required:
            message = f"Say which: {question.title.lower()}"
            attributes = attributes | {"required": "true", "requiredMessage": message}
        children = [(inner, {"value": c, **_hotkey(question, c, keys)}, ()) for c in question.choices]
        yield (tag, control | attributes, tuple(children))


_LISTED: Mapping[QuestionType, tuple[str, str, dict[str, str]]] = {
    QuestionType.CHOICE: ("Choices", "Choice", {"choice": "single-radio", "showInline": "true"}),
    QuestionType.CHOICES: ("Choices", "Choice", {"choice": "multiple", "showInline": "true"}),
    QuestionType.SPANS: ("Labels", "Label", {}),
}


def _hotkey(question: Question, choice: str, keys: Mapping[tuple[str, str], str]) -> dict[str, str]:
    key = keys.get((question.name, choice))
    return {"hotkey": key} if key else {}


def _header(title: str, size: str = "5") -> _Element:
    return ("Header", {"value": title, "size": size}, ())


def _view(*children: _Element, **attributes: str) -> _Element:
    return ("View", attributes, children)
