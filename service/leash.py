"""Runs a command that ends when its supervisor does, however that ends: `python leash.py FD COMMAND…`.

The supervisor holds the other end of the pipe FD. When it dies, even by SIGKILL, the pipe closes and the command's
whole process group is ended. Standard library only, for it is started before everything else.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 10
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run the command and return its exit status, or end it when the pipe closes or a signal says so."""
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    child = subprocess.Popen(  # noqa: S603  ours
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509  there are no threads here
    )
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: _end(child))
    while child.poll() is None:
        if select.select([pipe], [], [], 0.2)[0]:
            _end(child)
    _signal(child, signal.SIGKILL)  # whatever it left behind in its group
    return child.returncode


def _die_with_parent() -> None:
    """Let the kernel end the command when this leash is killed; elsewhere than on Linux nothing can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(child: "subprocess.Popen[bytes]") -> None:
    _signal(child, signal.SIGTERM)
    until = time.monotonic() + GRACE_SECONDS
    while child.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    _signal(child, signal.SIGKILL)
    child.wait()


def _signal(child: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(main())
