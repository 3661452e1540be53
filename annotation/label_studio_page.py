"""Label Studio's labelling page: what was asked and answered, then the verdict and what follows from it."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from annotation.label_schema import BEST_RATING
from annotation.types import Cause, LabelSchema, Verdict

_BOX = "border:1px solid #ccc;border-radius:4px;padding:8px;margin:4px 0 12px;white-space:pre-wrap"
_ROW = "display:flex;flex-wrap:wrap;gap:0 32px"
_VERDICT_KEYS = "123"
_CAUSE_KEYS = "456789"
_LABEL_KEYS = "qwertyiopasdfghjklzxcvbnm"  # without "u", which Label Studio takes itself

_WRAPPED = re.compile(r"\n +(?! |[-*+] |\d)")
_BOLD = re.compile(r"\*\*(\S[^*\n]*)\*\*")
_ITALIC = re.compile(r"\*([^\s*][^*\n]*)\*")

_Element = tuple[str, dict[str, str], tuple[Any, ...]]


def tags(schema: LabelSchema) -> Mapping[str, _Element]:
    """Return the sections as tag, attributes and children; the SDK builds the configuration from them."""
    return {f"section_{at}": section for at, section in enumerate([*_shown(), *_asked(schema)])}


def instructions(markdown: str) -> str:
    """Return guidelines as HTML: lines and emphasis, and all else as it was written."""
    lines = "\n".join(markdown.strip().splitlines())
    text = _WRAPPED.sub(" ", html.escape(lines, quote=False))
    return _ITALIC.sub(r"<i>\1</i>", _BOLD.sub(r"<b>\1</b>", text)).replace("\n", "<br>")


def _shown() -> list[_Element]:
    titles = {
        "context": "Context",
        "prompt": "Prompt",
        "response": "Response",
        "reasons": "What readers said",
    }
    return [
        _view(_header(title), _view(("Text", {"name": name, "value": f"${name}"}, ()), style=_BOX))
        for name, title in titles.items()
    ]


def _asked(schema: LabelSchema) -> list[_Element]:
    verdict = _choices("verdict", [str(v) for v in Verdict], _VERDICT_KEYS, required="Pick a verdict")
    cause = _choices("cause", [str(c) for c in Cause], _CAUSE_KEYS, required="Name the cause")
    wrong = {
        "visibleWhen": "choice-selected",
        "whenTagName": "verdict",
        "whenChoiceValue": str(Verdict.INCORRECT),
    }
    right: tuple[_Element, ...]
    if schema.labels:
        right = (_header("Right label"), _choices("label", schema.labels, _LABEL_KEYS))
    else:
        text = {
            "rows": "6",
            "editable": "true",
            "maxSubmissions": "1",
            "placeholder": "What should have been said",
        }
        right = (_header("Corrected response"), ("TextArea", {**_control("correction"), **text}, ()))
    ratings = [
        _view(
            _header(name.replace("_", " ").capitalize(), size="6"),
            ("Rating", {**_control(name), "maxRating": str(BEST_RATING)}, ()),
        )
        for name in schema.ratings
    ]
    return [
        _view(_header("Verdict"), verdict),
        _view(*right, _header("Cause"), cause, **wrong),
        _view(*ratings, style=_ROW),
    ]


def _choices(name: str, values: Sequence[str], keys: str, required: str = "") -> _Element:
    """Return radio buttons with a key each, as long as there are keys."""
    hotkeys = [{"hotkey": key} for key in keys] + [{}] * len(values)
    attributes = {"choice": "single-radio", "showInline": "true"}
    if required:
        attributes |= {"required": "true", "requiredMessage": required}
    children = (("Choice", {"value": v, **key}, ()) for v, key in zip(values, hotkeys, strict=False))
    return ("Choices", {**_control(name), **attributes}, tuple(children))


def _control(name: str) -> dict[str, str]:
    return {"name": name, "toName": "response"}


def _header(title: str, size: str = "5") -> _Element:
    return ("Header", {"value": title, "size": size}, ())


def _view(*children: _Element, **attributes: str) -> _Element:
    return ("View", attributes, children)
