"""Prints what this Python environment holds, as a CycloneDX bill of materials: `.venv/bin/python deploy/sbom.py`."""

import json
from importlib.metadata import Distribution, distributions


def bill() -> dict[str, object]:
    """Return the document, in the order of names, so that the same environment gives the same bytes."""
    found = {each.metadata["Name"].lower(): each for each in distributions()}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "errata", "bom-ref": "errata"}},
        "components": [_component(name, found[name]) for name in sorted(found)],
    }


def _component(name: str, package: Distribution) -> dict[str, object]:
    purl = f"pkg:pypi/{name.replace('_', '-')}@{package.version}"
    about = package.metadata
    licence = about.get("License-Expression") or about.get("License")
    named = [{"license": {"name": licence.splitlines()[0][:200]}}] if licence else []
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": package.version,
        "purl": purl,
        "licenses": named,
    }


if __name__ == "__main__":
    print(json.dumps(bill(), indent=1))
