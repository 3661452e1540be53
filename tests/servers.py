"""Servers that tests start by themselves."""

import subprocess
from pathlib import Path

from service import valkey


def start_valkey(data_dir: Path) -> "subprocess.Popen[bytes]":
    """Start the bundled Valkey of this data directory as `errata up` does, and wait until it answers."""
    server = subprocess.Popen(valkey.command(data_dir))
    valkey.wait_until_it_answers(data_dir)
    return server
