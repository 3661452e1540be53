"""Where the annotation tools run: an operator's own, or those that come with Errata."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from annotation.health import argilla_health, label_studio_health
from annotation.types import Health
from service import argilla_server, label_studio_server, tool_server
from service.errors import Invalid
from service.settings import Settings
from service.tables import ConnectorKind
from service.tool_server import Account, Installation, Report, Running, Secrets

LABEL_STUDIO, ARGILLA = ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA
# How a project inside a tool is named, such as label-studio:7.
NAMED = {
    LABEL_STUDIO: ("ID", re.compile("[0-9]{1,9}")),
    ARGILLA: ("WORKSPACE/DATASET", re.compile("[^/]+/[^/]+")),
}


class Bundled(Protocol):
    """A tool that comes with Errata: what the modules of both can do."""

    TITLE: str

    def home_of(self, data_dir: Path) -> Path: ...
    def install(self, cache_dir: Path, report: Report) -> Installation: ...
    def prepare(self, installation: Installation, data_dir: Path, /) -> Secrets: ...
    def command(
        self, installation: Installation, data_dir: Path, secrets: Secrets, *, port: int, redis_url: str
    ) -> tuple[list[str], dict[str, str]]: ...
    def running(self, data_dir: Path) -> Running | None: ...
    def is_up(self, url: str) -> bool: ...
    def login_of(self, name: str) -> str: ...
    def ensure_accounts(self, url: str, data_dir: Path, names: Sequence[str]) -> list[Account]: ...
    def lock_out(self, url: str, data_dir: Path, accounts: Sequence[Account]) -> None: ...


def bundled(kind: ConnectorKind) -> Bundled:
    """Return the tool of a kind as it comes with Errata."""
    return label_studio_server if kind is LABEL_STUDIO else argilla_server


def own(chosen: Settings, kind: ConnectorKind) -> Running | None:
    """Return the operator's own tool of a kind, if the settings name one."""
    url, token = {
        LABEL_STUDIO: (chosen.label_studio_url, chosen.label_studio_token),
        ARGILLA: (chosen.argilla_url, chosen.argilla_api_key),
    }[kind]
    return Running(url, token.get_secret_value()) if url else None


def health(chosen: Settings, kind: ConnectorKind) -> Health:
    """Ask a tool how it is, without its SDK."""
    found = running(chosen, kind)
    if found is None:
        return Health(
            problem=f"the bundled {bundled(kind).TITLE} is not up", remedy="./run up starts it, in minutes"
        )
    ask = label_studio_health if kind is LABEL_STUDIO else argilla_health
    return ask(found.url.rstrip("/"), found.token)


def accounts(chosen: Settings, kind: ConnectorKind) -> frozenset[str] | None:
    """Return our experts' names and addresses in a bundled tool; None where accounts are the operator's business."""
    if own(chosen, kind):
        return None
    home = bundled(kind).home_of(chosen.data_dir)
    if not (home / "secrets.json").exists():
        return None
    kept = tool_server.read_secrets(home).accounts
    return frozenset(name for account in kept for name in (account.name, account.email))


def login_of(chosen: Settings, kind: ConnectorKind, name: str) -> str | None:
    """Return what a person's answers are signed with; of a tool of the team's own that is not known beforehand."""
    if kind is ConnectorKind.NONE:
        return name
    return None if own(chosen, kind) else bundled(kind).login_of(name)


def is_taken(chosen: Settings, name: str) -> bool:
    """Say whether a bundled tool has an account of this name, or would take it for its administrator's."""
    admins = {label_studio_server.ADMIN_EMAIL, argilla_server.OWNER}
    kinds = (LABEL_STUDIO, ARGILLA)
    return any(
        name in (accounts(chosen, kind) or ()) or bundled(kind).login_of(name) in admins for kind in kinds
    )


def account(chosen: Settings, kind: ConnectorKind, name: str) -> Account | None:
    """Return the working account of a name in a bundled tool, if it has one."""
    home = bundled(kind).home_of(chosen.data_dir)
    kept = tool_server.read_secrets(home).accounts if (home / "secrets.json").exists() else ()
    return next((known for known in kept if known.name == name and known.token), None)


def lock_out(chosen: Settings, kind: ConnectorKind, known_as: Callable[[str], str]) -> None:
    """Lock the accounts of who has left in a bundled tool, each once.

    Raises:
        ToolFailed: the tool refuses, or does not answer.
    """
    tool = bundled(kind)
    home, there = tool.home_of(chosen.data_dir), None if own(chosen, kind) else running(chosen, kind)
    kept = tool_server.read_secrets(home).accounts if there and (home / "secrets.json").exists() else ()
    left = [
        each for each in kept if each.token and known_as(tool.login_of(each.name)) != tool.login_of(each.name)
    ]
    if there and left:
        tool.lock_out(there.url, chosen.data_dir, left)
        tool_server.forget_tokens(home, {each.name for each in left})


def running(chosen: Settings, kind: ConnectorKind) -> Running | None:
    """Return the tool of a kind that experts work in: the operator's own, or the bundled one once it answers."""
    return own(chosen, kind) or bundled(kind).running(chosen.data_dir)


def named(reference: str) -> tuple[ConnectorKind, str] | None:
    """Return the tool, and the project inside it, that a reference such as label-studio:7 names; None if it is none.

    Raises:
        Invalid: it names a tool, and no project.
    """
    tool, colon, project = reference.partition(":")
    if not colon or tool not in NAMED:
        return None
    kind = ConnectorKind(tool)
    form, pattern = NAMED[kind]
    if not pattern.fullmatch(project):
        raise Invalid(f"{reference}: write {kind}:{form}")
    return kind, project


def inside(reference: str) -> str:
    """Return a reference that names a project inside a tool.

    Raises:
        Invalid: it is none; a file here is for whoever has a shell here.
    """
    if named(reference) is None:
        raise Invalid(f"place: {' or '.join(f'{kind}:{form}' for kind, (form, _) in NAMED.items())}")
    return reference
