"""Hand an adapter to what serves it, and tell by its answers whether that version is what answers there."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from fsspec.core import url_to_fs

from retrain.artifacts import ArtifactStore
from retrain.types import canonical_json

CHAMPION = "champion.json"
MIN_TELLING = 3  # questions that two versions answer differently
LEAST_AS_MEANT, LEAST_AHEAD = (
    0.6,
    0.2,
)  # kernels of other machines round otherwise, so that not every word is the same
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Attested:
    """Whether the version that was meant answers, None where its answers tell it from no other, and why."""

    is_meant: bool | None
    sentence: str


def served_name(project: str, number: int, sha256: str) -> str:
    """Return what a version is called where it is served: its hash is in it, so that no name is used twice."""
    return f"{project}--v{number}--{sha256.removeprefix('sha256:')[:_DIGITS]}"


def publish(store: ArtifactStore, sha256: str, place: str, name: str) -> None:
    """Write an adapter's files to `place`/`name`; in a directory they appear whole or not at all.

    In an object store nobody reads them before `champion.json` names them.

    Raises:
        MissingArtifact, BrokenArtifact: the store does not hold the adapter.
        OSError: it cannot be written there.
    """
    files, root = url_to_fs(place)
    files.makedirs(root, exist_ok=True)
    if files.exists(f"{root}/{name}"):
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "adapter")
        store.fetch_directory(sha256, whole)
        is_local = "file" in files.protocol
        target = f"{root}/.{name}-{uuid4().hex}" if is_local else f"{root}/{name}"
        files.put(f"{whole}/", f"{target}/", recursive=True)
    if is_local:
        files.mv(target, f"{root}/{name}", recursive=True)


def name_champion(place: str, document: Mapping[str, object]) -> None:
    """Write `champion.json` at `place`; whoever reads it finds the last one or this one whole.

    Raises:
        OSError: it cannot be written there.
    """
    files, root = url_to_fs(place)
    files.makedirs(root, exist_ok=True)
    if "file" not in files.protocol:
        files.pipe_file(f"{root}/{CHAMPION}", canonical_json(document))
        return
    draft = f"{root}/.{CHAMPION}-{uuid4().hex}"
    files.pipe_file(draft, canonical_json(document))
    files.mv(draft, f"{root}/{CHAMPION}")


def attest(heard: Mapping[str, str], known: Mapping[int, Mapping[str, str]], meant: int) -> Attested:
    """Compare what was heard with what each known version answered to the same questions, by question.

    Only questions tell that two versions answer differently: of these the answers must be mostly the meant version's,
    and clearly more often than the other's.
    """
    if meant not in known or len(known) < 2:
        return Attested(is_meant=None, sentence="nothing is known that tells this version from another")
    own = known[meant]
    for other in sorted(known.keys() - {meant}):
        said = known[other]
        telling = [key for key in heard if key in own and key in said and own[key] != said[key]]
        if len(telling) < MIN_TELLING:
            alike = f"version {other} answers {len(heard) - len(telling)} of {len(heard)} questions alike"
            return Attested(is_meant=None, sentence=alike)
        as_meant = sum(heard[key] == own[key] for key in telling)
        as_other = sum(heard[key] == said[key] for key in telling)
        share, ahead = as_meant / len(telling), (as_meant - as_other) / len(telling)
        if share < LEAST_AS_MEANT or ahead < LEAST_AHEAD:
            counts = f"{as_meant} of {len(telling)} answers are version {meant}'s, {as_other} are version {other}'s"
            return Attested(is_meant=False, sentence=counts)
    return Attested(is_meant=True, sentence=f"it answers as version {meant} did when it was judged")
