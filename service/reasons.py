"""The reasons from which users choose: what each is called, how severe it is, and what it leads to."""

import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

from annotation.answers import NAMES
from retrain.criteria import METRIC_NAMES
from service.errors import Invalid

TOOLS = ("label-studio", "argilla")
LANGUAGES = ("en", "de", "fr", "es", "ar")
MAX_LABEL = 100
FIELDS = {"severity", "labels", "tool", "question", "metric"}
MARK, REWRITE = ("label-studio", "spans"), ("argilla", "correction")


def default_reasons() -> dict[str, dict[str, Any]]:
    """Return what a project's users may choose from until it says otherwise.

    What is wrong in a place is marked there, in Label Studio; what is wrong as a whole is written anew, in Argilla.
    """
    return {
        "wrong": _reason(3, MARK, "groundedness", _WRONG),
        "mixed_up": _reason(4, MARK, "role_conflation", _MIXED_UP),
        "invented": _reason(4, MARK, "invented_entities", _INVENTED),
        "outdated": _reason(3, MARK, "accuracy", _OUTDATED),
        "off_topic": _reason(2, REWRITE, "task_completion", _OFF_TOPIC),
        "incomplete": _reason(2, REWRITE, "length_ratio", _INCOMPLETE),
        "refused": _reason(2, REWRITE, "over_refusal", _REFUSED),
        "unsafe": _reason(5, MARK, "toxicity", _UNSAFE),
        "style": _reason(1, REWRITE, "tone_distance", _STYLE),
        "other": _reason(1, None, None, _OTHER),
    }


def check(content: Any) -> None:
    """See that a document says what users may give as reasons: an object of codes, each with its `severity`.

    It may say `labels` by language, the `tool` and the `question` that the reason leads to, and the `metric` it feeds.

    Raises:
        Invalid: a code or what stands under it cannot be used.
    """
    if not isinstance(content, dict) or not content:
        raise Invalid("reasons: an object of at least one code is needed")
    for code, reason in content.items():
        if not re.fullmatch("[a-z][a-z0-9_]{0,63}", code):
            raise Invalid(f"reasons: {code!r} may hold lower-case letters, digits and underscores only")
        severity = reason.get("severity") if isinstance(reason, dict) else None
        if isinstance(severity, bool) or not isinstance(severity, int | float) or not 0 <= severity <= 10:
            raise Invalid(f"reasons: {code} needs a severity from 0 to 10")
        if unknown := sorted(set(reason) - FIELDS):
            raise Invalid(
                f"reasons: {code} holds {unknown[0]!r}, which is none of {', '.join(sorted(FIELDS))}"
            )
        _check_labels(code, reason.get("labels", {}))
        for name, known in (("tool", TOOLS), ("question", NAMES), ("metric", METRIC_NAMES)):
            if name in reason and (not isinstance(reason[name], str) or reason[name] not in known):
                raise Invalid(f"reasons: {code}: {name} is one of {', '.join(sorted(known))}")


def label(content: Mapping[str, Any], code: str, language: str = "en") -> str:
    """Return what a reason is called in a language, or else in English."""
    labels = content.get(code, {}).get("labels", {})
    for known in (language, language.partition("-")[0], "en"):
        if known in labels:
            return str(labels[known])
    return code.replace("_", " ").capitalize()


def told(known: Container[str], codes: Sequence[str]) -> list[str]:
    """Return reasons as somebody gave them, those that the taxonomy of that time does not know marked so."""
    return [code if code in known else f"{code} (unknown)" for code in codes]


def _check_labels(code: str, labels: Any) -> None:
    if not isinstance(labels, dict):
        raise Invalid(f"reasons: {code}: labels is an object of languages")
    for language, text in labels.items():
        if not re.fullmatch("[a-z]{2,3}(-[A-Za-z0-9]{2,8})*", language):
            raise Invalid(f"reasons: {code}: {language!r} is no language, such as de or de-AT")
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_LABEL:
            raise Invalid(f"reasons: {code}: a label is a text of at most {MAX_LABEL} characters")


def _reason(
    severity: int, place: tuple[str, str] | None, metric: str | None, labels: tuple[str, ...]
) -> dict[str, Any]:
    reason = {"severity": severity, "labels": dict(zip(LANGUAGES, labels, strict=True))}
    if place:
        reason["tool"], reason["question"] = place
    return reason | ({"metric": metric} if metric else {})


_WRONG = (
    "Factually wrong",
    "Sachlich falsch",
    "Inexact",
    "Incorrecto",
    "معلومة خاطئة",
)
_MIXED_UP = (
    "Mixes up people, parties or products",
    "Verwechselt Personen, Parteien oder Produkte",
    "Confond des personnes, des parties ou des produits",
    "Confunde personas, partes o productos",
    "يخلط بين أشخاص أو أطراف أو منتجات",
)
_INVENTED = (
    "Made up: a source, a rule or a product",
    "Erfunden: eine Quelle, eine Vorschrift oder ein Produkt",
    "Inventé : une source, une règle ou un produit",
    "Inventado: una fuente, una norma o un producto",
    "مختلَق: مصدر أو قاعدة أو منتج",
)
_OUTDATED = ("Out of date", "Veraltet", "Périmé", "Desactualizado", "قديم")
_OFF_TOPIC = (
    "Did not answer the question",
    "Beantwortet die Frage nicht",
    "Ne répond pas à la question",
    "No responde a la pregunta",
    "لم يُجب عن السؤال",
)
_INCOMPLETE = (
    "Incomplete, or too long",
    "Unvollständig oder zu lang",
    "Incomplet ou trop long",
    "Incompleto o demasiado largo",
    "ناقص أو طويل جدًّا",
)
_REFUSED = (
    "Refused without need",
    "Grundlos verweigert",
    "Refus injustifié",
    "Se negó sin motivo",
    "رفض بلا داعٍ",
)
_UNSAFE = (
    "Unsafe or biased",
    "Gefährlich oder voreingenommen",
    "Dangereux ou partial",
    "Peligroso o sesgado",
    "خطير أو متحيّز",
)
_STYLE = ("Tone or style", "Ton oder Stil", "Ton ou style", "Tono o estilo", "النبرة أو الأسلوب")
_OTHER = ("Something else", "Etwas anderes", "Autre chose", "Otra cosa", "شيء آخر")
