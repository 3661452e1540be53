"""An evaluation as a report that pipelines read."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring


def as_junit(evaluation: Mapping[str, Any]) -> str:
    """Return one test suite: each rule of the gate is a case, and one more is the verdict itself.

    Source: the schema of JUnit's XML reports as GitHub's and GitLab's pipelines read it.
    """
    waived = evaluation.get("waived") or {}
    cases = [
        (_name(reason), reason["met"] or reason["rule"] == waived.get("rule"), _told(reason))
        for reason in evaluation["reasons"]
    ]
    cases.append(("verdict", evaluation["verdict"] == "passed" or bool(waived), evaluation["sentence"]))
    failures = sum(not is_met for _, is_met, _ in cases)
    suite = Element(
        "testsuite",
        name=f"errata: model version {evaluation['model_version']}",
        tests=str(len(cases)),
        failures=str(failures),
    )
    for name, is_met, told in cases:
        case = SubElement(suite, "testcase", classname="gate", name=name)
        if is_met:
            SubElement(case, "system-out").text = told
        else:
            SubElement(case, "failure", message=told)
    return tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _name(reason: Mapping[str, Any]) -> str:
    named = (reason["rule"], reason.get("metric"), reason["suite"], reason["slice"])
    return " ".join(filter(None, named))


def _told(reason: Mapping[str, Any]) -> str:
    return (
        f"champion {reason['champion']:.3f}, challenger {reason['challenger']:.3f},"
        f" interval {reason['low']:+.3f} to {reason['high']:+.3f}, margin {reason['margin']:.3f}"
    )
