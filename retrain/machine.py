"""What of a machine decides an adapter's bytes, besides code and packages."""

import os
import platform
from pathlib import Path


def machine(threads: int) -> dict[str, object]:
    """Return Python's version, the system, the kinds of CPU and GPU, and the threads that sums are parted among.

    0 threads are as many as is usual.
    """
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu": _cpu(),
        "gpu": ", ".join(_gpus()) or "none",
        "cpus": os.cpu_count(),
        "threads": threads or int(os.environ.get("OMP_NUM_THREADS") or 0) or os.cpu_count(),
    }


def _gpus() -> list[str]:
    """Return the names of NVIDIA's GPUs, as its driver tells them on Linux; `CUDA_VISIBLE_DEVICES` hides none."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    told = (line.partition(":") for file in found for line in file.read_text().splitlines())
    return [value.strip() for name, _, value in told if name == "Model"]


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
