"""Mirrors training sets and their runs to a Git repository whose rows lie with DVC, a tag for each.

`dvc add` needs a work tree, which a kill leaves half-written. Here content comes first, then Git's objects and last the
tag, so that a set appears whole or not at all.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from shutil import rmtree

import pygit2
from filelock import FileLock
from pygit2 import Commit, Oid, Repository, Tree
from pygit2.enums import CheckoutStrategy, FileMode, Option, RepositoryOpenFlag

from retrain.amounts import how_many
from retrain.errors import ForeignChanges, UnknownVersion, VersionTaken
from retrain.remotes import Cache, Remote, configuration, digest_of, pointed_to, pointer_to
from retrain.types import Contents, version_tag

_NAME = re.compile(r"[A-Za-z0-9](\.?[A-Za-z0-9_-])*(?<!\.lock)")
_TAGS = "refs/tags/"
_MAIN = "refs/heads/main"
_FRONT_PAGE = b"""# Training sets

Each tag `NAME/vN` holds a version of a training set, each tag `NAME/run-ID` a version and a training run on it.
`git checkout TAG`, then `dvc pull`, brings one with its rows. This branch holds nothing else.
"""


@dataclass(frozen=True, slots=True)
class DataRepository:
    """A Git repository that only this class writes, with DVC's cache of the rows beside it.

    `NAME/vN` grows from the version before it and holds `sets/NAME`; no tag moves, so that a second revision of it is
    `NAME/vN-2`. `NAME/run-ID` grows from a revision of its set and adds `runs/NAME`. No path holds a version or a run,
    so that `git diff` and `dvc metrics diff` compare tags; no tree holds another set, so that erasing from one breaks
    no other. The work tree shows a front page.
    """

    directory: Path
    remote: Remote | None = None
    author: str = "Errata <errata@localhost>"

    def publish(self, name: str, version: int, contents: Contents, *, revision: int = 1) -> str:
        """Tag a set's version, or a later revision of it, and return its commit; a second time, return the first one's.

        Equal contents after equal versions give equal commits.

        Raises:
            ForeignChanges: the repository has changes or a branch checked out that are not ours; they stay.
            VersionTaken: the tag holds something else.
        """
        tag = _tag(name, version_tag(version, revision))
        with self._writing() as git:
            base, parent = _tree(git, configuration(self.remote)), _before(git, name, version, revision)
            return self._commit(git, tag, contents, folder=f"sets/{name}", base=base, parent=parent)

    def add_run(self, name: str, version: int, run: str, contents: Contents, *, revision: int = 1) -> str:
        """Tag a finished run, and the version it trained on, `NAME/run-ID`; else as `publish`.

        Raises:
            UnknownVersion: the version is not published.
        """
        tag = _tag(name, f"run-{run}")
        with self._writing() as git:
            on = _found(git, _tag(name, version_tag(version, revision)))
            return self._commit(git, tag, contents, folder=f"runs/{name}", base=on.tree, parent=on.id)

    def commit_of(self, tag: str) -> str | None:
        """Return a tag's commit, or None if there is no such tag."""
        with self._writing() as git:
            found = git.references.get(_TAGS + tag)
            return str(found.peel(Commit).id) if found else None

    def tags(self) -> list[str]:
        """Return every tag; a directory that is not there has none."""
        if not self.directory.exists():
            return []
        return [name.removeprefix(_TAGS) for name in self._open().references if name.startswith(_TAGS)]

    def shards(self, tag: str) -> dict[str, str]:
        """Return the files of a tag that DVC holds, as path: digest.

        Raises:
            UnknownVersion: there is no such tag.
        """
        tree = _found(self._open(), tag).tree
        name = tag.partition("/")[0]
        return {**_pointed(tree, f"sets/{name}"), **_pointed(tree, f"runs/{name}")}

    def content(self, digest: str) -> Path | None:
        """Return where content lies here, if it does."""
        path = self._cache().path(digest)
        return path if path.exists() else None

    def push(self) -> int:
        """Send the remote what it lacks of any tag and the cache still has; return how many objects that were.

        Raises:
            RemoteRefused: the remote said no, or nothing; the next push goes on where this one ended.
        """
        if not self.remote:
            return 0
        with self._turn("remote"):
            return self.remote.send(self._digests(self.tags()), self._cache())

    def unpushed(self, tags: Iterable[str]) -> set[str]:
        """Return the digests of what these tags name and the remote lacks; without a remote nothing is.

        Raises:
            RemoteRefused: the remote said no, or nothing.
            UnknownVersion: there is no such tag.
        """
        return self.remote.lacks(self._digests(tags), self._cache()) if self.remote else set()

    def forget(self, digests: Callable[[], Iterable[str]]) -> None:
        """Remove content from cache, work tree and remote; the tags go on naming it, `dvc pull` there misses it.

        What no tag names leaves the cache too.

        It is asked for in our turn, so that nothing is published between the answer and the removal.

        Raises:
            RemoteRefused: the remote may still have it, though nothing here has; forget it again.
        """
        with self._turn("git"):
            gone = set(digests())
            for digest in gone:
                self._cache().remove(digest)
            # What a killed attempt to publish left.
            self._cache().remove_others(self._digests(self.tags()))
            if gone:
                self._clear_work_tree(gone)
        if self.remote and gone:
            with self._turn("remote"):
                self.remote.remove(gone)

    def collect(self, keep: Callable[[], Iterable[str]]) -> int:
        """Remove from the cache, not from the remote, what none of these tags needs; return how many files.

        What the remote lacks stays. The tags are asked for in our turn, so that nothing is published between the answer
        and the removal; the remote before it, for it may be slow.

        Raises:
            RemoteRefused: the remote does not say what it has; nothing is removed.
            UnknownVersion: there is no such tag; nothing is removed.
        """
        named = self._digests(self.tags())
        pushed = named - self.unpushed(self.tags())
        with self._writing():
            unpushed = self._digests(self.tags()) - pushed
            return self._cache().remove_others(self._digests(keep()) | unpushed)

    @contextmanager
    def _writing(self) -> Iterator[Repository]:
        """Wait for our turn and lend the repository, made if need be, in the state in which we left it."""
        with self._turn("git"):
            pygit2.option(Option.ENABLE_FSYNC_GITDIR, True)  # noqa: FBT003
            if not self.directory.exists() or not any(self.directory.iterdir()):
                self._create()
            git = self._open()
            if git.references["HEAD"].target != _MAIN:
                raise ForeignChanges(f"{self.directory} has something else than main checked out")
            if changed := sorted(git.status()):
                raise ForeignChanges(
                    f"{self.directory} has {how_many(len(changed), 'change')}, {changed[0]} first"
                )
            yield git

    def _turn(self, what: str) -> FileLock:
        """Wait for the others; a slow remote has a lock of its own and holds up no version."""
        return FileLock(self.directory.with_name(f".{self.directory.name}.{what}.lock"))

    def _create(self) -> None:
        unfinished = self.directory.with_name(f".{self.directory.name}.unfinished")
        rmtree(unfinished, ignore_errors=True)
        git = pygit2.init_repository(str(unfinished), initial_head="main")
        tree = _tree(git, {**configuration(self.remote), "README.md": _FRONT_PAGE})
        author = self._signature(datetime.fromtimestamp(0, UTC))
        git.create_commit(_MAIN, author, author, "Front page", tree.id, [])
        git.checkout(_MAIN, strategy=CheckoutStrategy.FORCE)
        unfinished.rename(self.directory)

    def _open(self) -> Repository:
        try:
            git = Repository(str(self.directory), RepositoryOpenFlag.NO_SEARCH)
            git.revparse_single("main:.dvc/config")
        except (pygit2.GitError, KeyError) as error:
            raise ForeignChanges(f"{self.directory} is not the data repository: {error}") from error
        return git

    def _signature(self, at: datetime) -> pygit2.Signature:
        return pygit2.Signature(*parseaddr(self.author), int(at.timestamp()), 0)

    def _commit(
        self,
        git: Repository,
        tag: str,
        contents: Contents,
        *,
        folder: str,
        base: Tree,
        parent: Oid | None,
    ) -> str:
        digests = {path: digest_of(file) for path, file in sorted(contents.files.items())}
        tree = _tree(git, _in_git(contents, digests, folder), base)
        if _TAGS + tag in git.references:
            return _same(_found(git, tag), tree, folder)
        for path, digest in digests.items():
            self._cache().add(contents.files[path], digest)
        author = self._signature(contents.at)
        commit = git.create_commit(None, author, author, tag, tree.id, [parent] if parent else [])
        Path(git.path, f"{_TAGS}{tag}.lock").unlink(missing_ok=True)  # a killed attempt's, for it is our turn
        git.references.create(_TAGS + tag, commit)
        return str(commit)

    def _cache(self) -> Cache:
        return Cache(self.directory / ".dvc" / "cache")

    def _digests(self, tags: Iterable[str]) -> set[str]:
        return {digest for tag in tags for digest in self.shards(tag).values()}

    def _clear_work_tree(self, digests: set[str]) -> None:
        """Remove rows that someone has checked out in the repository itself."""
        for tag in self.tags():
            for path, digest in self.shards(tag).items():
                file = self.directory / path
                if digest in digests and file.is_file() and digest_of(file) == digest:
                    file.unlink()


def _in_git(contents: Contents, digests: Mapping[str, str], folder: str) -> dict[str, bytes]:
    """Return the facts, DVC's pointer to the files, and what keeps the files themselves out of Git."""
    ignored = "".join(f"/{path}\n" for path in digests).encode()
    small = {**contents.facts, "files.dvc": pointer_to(contents.files, digests), ".gitignore": ignored}
    return {f"{folder}/{path}": content for path, content in small.items()}


def _tag(name: str, what: str) -> str:
    for part in (name, what):
        if not _NAME.fullmatch(part):
            raise ValueError(f"{part!r} cannot be part of a tag")
    return f"{name}/{what}"


def _found(git: Repository, tag: str) -> Commit:
    try:
        return git.references[_TAGS + tag].peel(Commit)
    except KeyError as error:
        raise UnknownVersion(f"the data repository has no tag {tag}") from error


def _before(git: Repository, name: str, version: int, revision: int) -> Oid | None:
    """Return what a revision grows from: the one before it, if there is one, else the version before."""
    earlier = [f"{name}/{version_tag(version, number)}" for number in range(revision - 1, 0, -1)]
    found = next((tag for tag in earlier if _TAGS + tag in git.references), None)
    return _found(git, found).id if found else _version_before(git, name, version)


def _version_before(git: Repository, name: str, version: int) -> Oid | None:
    tags = [re.fullmatch(rf"{_TAGS}{re.escape(name)}/v(\d+)", each) for each in git.references]
    earlier = [int(tag[1]) for tag in tags if tag and int(tag[1]) < version]
    return _found(git, f"{name}/v{max(earlier)}").id if earlier else None


def _tree(git: Repository, contents: Mapping[str, bytes], base: Tree | None = None) -> Tree:
    """Write a tree with these contents over another; its `dvc.yaml` names all metrics in it."""
    index = pygit2.Index()
    if base:
        index.read_tree(base)
    for path, content in contents.items():
        index.add(pygit2.IndexEntry(path, git.create_blob(content), FileMode.BLOB))
    metrics = [f"- {entry.path}\n" for entry in index if entry.path.endswith("/metrics.json")]
    if metrics:
        listed = git.create_blob("".join(["metrics:\n", *metrics]).encode())
        index.add(pygit2.IndexEntry("dvc.yaml", listed, FileMode.BLOB))
    return git[index.write_tree(git)].peel(Tree)


def _same(found: Commit, tree: Tree, folder: str) -> str:
    """Return the commit if its folder is the tree's; its remote and its time may be others."""
    if folder not in found.tree or found.tree[folder].id != tree[folder].id:
        raise VersionTaken(f"{found.message.strip()} is published with other content")
    return str(found.id)


def _pointed(tree: Tree, folder: str) -> dict[str, str]:
    pointer = f"{folder}/files.dvc"
    files = pointed_to(tree[pointer].read_raw()) if pointer in tree else {}
    return {f"{folder}/{path}": digest for path, digest in files.items()}
