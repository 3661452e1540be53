"""Keep a copy, bring it back, and see whether all that is kept is whole."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service import backup_keys, backups, ledger, migrations
from service.backup_keys import Key
from service.cli.console import AsJson, connect, show
from service.cli.doctor import FAILED, OK, Check
from service.clock import utcnow
from service.runtime import Runtime, from_environment

app = typer.Typer()
File = Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False)]
KeyFile = Annotated[
    Path | None, typer.Option("--key", help="The file of the key that seals it.", dir_okay=False)
]
RESTORE = "restore a backup into an empty installation: errata restore FILE"


@app.command()
def backup(
    file: File,
    secrets: Annotated[bool, typer.Option("--secrets", help="With the keys that sign tokens.")] = False,
    key: KeyFile = None,
    key_days: Annotated[int, typer.Option(min=1, help="When a key that is made here dies.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Copy rows and artifacts of a running installation into one file, sealed if a key is named or made."""
    sealing = backup_keys.read_or_make(key, days=key_days, today=utcnow().date()) if key else None
    told = backups.write(connect(), file, with_secrets=secrets, key=sealing)
    show({"file": str(file)} | told, as_json=as_json)


@app.command()
def restore(file: File, key: KeyFile = None, as_json: AsJson = False) -> None:
    """Bring a backup into an empty installation."""
    manifest = backups.restore(from_environment(), file, key=_read(key))
    keys = "as they were" if manifest["secrets"] else "new: tokens and certificates given before are void"
    show(manifest | {"keys": keys, "next": "errata verify"}, as_json=as_json)


@app.command()
def verify(
    against: Annotated[
        Path | None, typer.Option("--backup", help="A backup, with which the ledger must still begin.")
    ] = None,
    key: KeyFile = None,
    as_json: AsJson = False,
) -> None:
    """Check schema, references, ledger and the hash of every artifact, and print remedies; exits 1 when one fails."""
    checks = [
        Check(name, FAILED, "; ".join(problems), remedy) if problems else Check(name, OK, "whole")
        for name, problems, remedy in _looked_at(from_environment(), against, _read(key))
    ]
    show({"checks": [asdict(check) for check in checks]}, as_json=as_json)
    if any(check.state == FAILED for check in checks):
        raise typer.Exit(1)


def _read(key: Path | None) -> Key | None:
    return backup_keys.read(key, today=utcnow().date()) if key else None


def _looked_at(
    runtime: Runtime, against: Path | None, key: Key | None
) -> Iterator[tuple[str, list[str], str]]:
    """Yield what was looked at, what is wrong with it, and the remedy."""
    current, head = migrations.revision(runtime.db), migrations.head()
    if current != head:
        yield "schema", [f"revision {current}, not {head}"], "run: ./run up"
        return
    yield "references", backups.broken_rows(runtime.db), RESTORE
    with runtime.db.reading() as session:
        broken = list(ledger.broken(session))
        if against:  # what was cut off its end, the chain alone cannot tell
            broken += ledger.parted_from(session, **backups.manifest_of(against, key=key)["ledger"])
        yield "ledger", broken, f"find out who changed it; then {RESTORE}"
        yield "artifacts", list(backups.broken_artifacts(runtime, session)), RESTORE
