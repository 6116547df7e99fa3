"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
import triton
from torch.utils.collect_env import get_nvidia_driver_version, run


def describe() -> dict[str, str | int | None]:
    """Processor, GPU, driver and versions: what a reader needs to place a figure. No names of machines or users."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "gpu": gpu,
        "driver": get_nvidia_driver_version(run) if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
