"""Where the annotation tools run: an operator's own, or those that come with Errata."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from service import argilla_server, label_studio_server
from service.settings import Settings
from service.tables import ConnectorKind
from service.tool_server import Account, Installation, Report, Running, Secrets

LABEL_STUDIO, ARGILLA = ConnectorKind.LABEL_STUDIO, ConnectorKind.ARGILLA


@dataclass(frozen=True, slots=True)
class Bundled:
    """A tool that comes with Errata: what both of their modules can do."""

    title: str
    home_of: Callable[[Path], Path]
    install: Callable[[Path, Report], Installation]
    prepare: Callable[[Installation, Path], Secrets]
    command: Callable[..., tuple[list[str], dict[str, str]]]
    running: Callable[[Path], Running | None]
    is_up: Callable[[str], bool]
    ensure_accounts: Callable[[str, Path, Sequence[str]], list[Account]]


def bundled(kind: ConnectorKind) -> Bundled:
    """Return the tool of a kind as it comes with Errata."""
    module = {LABEL_STUDIO: label_studio_server, ARGILLA: argilla_server}[kind]
    return Bundled(
        title=module.TITLE,
        home_of=module.home_of,
        install=module.install,
        prepare=module.prepare,
        command=module.command,
        running=module.running,
        is_up=module.is_up,
        ensure_accounts=module.ensure_accounts,
    )


def own(chosen: Settings, kind: ConnectorKind) -> Running | None:
    """Return the operator's own tool of a kind, if the settings name one."""
    url, token = {
        LABEL_STUDIO: (chosen.label_studio_url, chosen.label_studio_token),
        ARGILLA: (chosen.argilla_url, chosen.argilla_api_key),
    }[kind]
    return Running(url, token.get_secret_value()) if url else None


def running(chosen: Settings, kind: ConnectorKind) -> Running | None:
    """Return the tool of a kind that experts work in: the operator's own, or the bundled one once it answers."""
    return own(chosen, kind) or bundled(kind).running(chosen.data_dir)
