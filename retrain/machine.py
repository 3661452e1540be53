"""What of a machine decides an adapter's bytes, besides code and packages."""

import os
import platform
from pathlib import Path


def machine(threads: int) -> dict[str, object]:
    """Return Python's version, the system, the kind of CPU, and the threads that sums are parted among (0: usual)."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "threads": threads or int(os.environ.get("OMP_NUM_THREADS") or 0) or os.cpu_count(),
    }


def _cpu() -> str:
    """Return the CPU's name and, for arithmetic differs by it, whether it knows bfloat16; on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told: dict[str, str] = {}
    for line in lines:  # the first of the cores tells for all
        name, colon, value = line.partition(":")
        if colon:
            told.setdefault(name.strip(), value.strip())
    name = told.get("model name") or platform.processor() or platform.machine()
    return f"{name}, {'with' if 'avx512_bf16' in told.get('flags', '').split() else 'without'} bfloat16"
