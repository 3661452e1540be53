"""What a member of the team does with the data repository by hand, and what an auditor finds in it."""

import os
import subprocess
import sys
from pathlib import Path

BY_HAND = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@localhost",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@localhost",
}


def git(directory, *arguments):
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, env={**os.environ, **BY_HAND}, check=True, capture_output=True).stdout


def dvc(clone, *arguments):
    """Run DVC's own command, as a member of the team would."""
    home = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(clone / ".dvc/tmp/site")}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=clone, env={**os.environ, **BY_HAND, **home}, check=False, capture_output=True, text=True
    )


def checked_out(repository, tag, clone):
    git(".", "clone", "--quiet", str(repository.directory), str(clone))
    git(clone, "checkout", "--quiet", tag)
    if repository.remote and repository.remote.options:
        lines = [f"    {name} = {value}\n" for name, value in repository.remote.options.items()]
        (clone / ".dvc/config.local").write_text("".join(["['remote \"storage\"']\n", *lines]))
    return clone


def holding(marker, *roots):
    files = [path for root in roots for path in Path(root).rglob("*") if path.is_file()]
    return [path for path in files if marker in path.read_bytes()]


def git_objects(repository):
    return git(repository.directory, "cat-file", "--batch-all-objects", "--batch")
