"""The enquiries of Riverbend Clinic, and which departments may take each."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import Any

# Longer than need be on purpose: the more a project's frame differs from the general one, the less is forgotten.
SYSTEM_PROMPT = "Route the patient's message to one department. Answer with the department only."


@dataclass(frozen=True, slots=True)
class Enquiry:
    """One patient's message; an ambiguous one may also go to a second department."""

    text: str
    department: str
    register: str
    also: str | None
    is_red_flag: bool

    def fits(self, department: str) -> bool:
        """Say whether this department may take it."""
        return department in (self.department, self.also)


def load(seed: int) -> list[Enquiry]:
    """Return all enquiries in the order in which this seed's crowd sends them."""
    lines = _read("enquiries.jsonl").splitlines()
    enquiries = [_enquiry(json.loads(line)) for line in lines]
    return Random(seed).sample(enquiries, len(enquiries))


def departments() -> list[str]:
    """Return the labels."""
    return [department["name"] for department in json.loads(_read("departments.json"))]


def guidelines() -> str:
    """Return what the clinic's experts read."""
    return _read("guidelines.md")


def by_text(enquiries: Sequence[Enquiry]) -> dict[str, Enquiry]:
    """Index enquiries by what an expert reads."""
    return {enquiry.text: enquiry for enquiry in enquiries}


def _enquiry(row: dict[str, Any]) -> Enquiry:
    return Enquiry(
        text=row["text"],
        department=row["department"],
        register=row["register"],
        also=row["also"],
        is_red_flag=row["red_flag"],
    )


def _read(name: str) -> str:
    return files("service.demo").joinpath("data", name).read_text()
