"""Examine this machine: show its versions and devices, which code will run, and what is missing.

Examples:
  lwta doctor                         # versions, devices, kernels, CLIP weights on this machine
  lwta doctor --clip ViT-B-16/openai  # also try to open this CLIP, which may download it
  lwta doctor --json report.json      # the same for a bug report; "-" prints it
"""

from __future__ import annotations

import argparse
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lwta import functional
from lwta.cli._output import add_json, emit
from lwta.dissection import ClipEncoder
from lwta.kernels import eager
from lwta.support.tables import Column, text_table

PACKAGES = ("lwta", "torch", "triton", "open_clip_torch", "timm", "torchvision", "safetensors", "numpy", "Pillow")
OPTIONAL = {
    "scikit-learn": "digits of the demo",
    "tensorboard": "curves of training",
    "sentence-transformers": "names of output neurons compared",
}
OLDEST_GPU = (8, 0)

Facts = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `lwta doctor`."""
    parser.add_argument("--clip", metavar="NAME", help="open this CLIP too; it is downloaded if it is not here")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Examine the machine, and return the exit code: 1 if something that should work does not."""
    findings: dict[str, Facts] = {
        "versions": versions(),
        "devices": devices(),
        "kernels": kernels(),
        "clip": clips(arguments.clip),
    }
    problems: list[str] = [line for part in findings.values() for line in part.pop("problems")]
    emit({**findings, "problems": problems}, _text(findings, problems), arguments.json)
    return 1 if problems else 0


def versions() -> Facts:
    """Find the versions of Python and of the packages that the library uses."""
    found: dict[str, Any] = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    missing = []
    for name in (*PACKAGES, *OPTIONAL):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = f"not installed (optional: {OPTIONAL[name]})" if name in OPTIONAL else "not installed"
            missing += [] if name in OPTIONAL else [f"{name} is not installed: pip install {name}"]
    return {**found, "problems": missing}


def devices() -> Facts:
    """Find the processor, and name, memory and capability of the GPUs."""
    found: Facts = {"cpu": f"{torch.get_num_threads()} threads"}
    problems = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        capability = (properties.major, properties.minor)
        found[f"cuda:{number}"] = (
            f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, capability {capability[0]}.{capability[1]}"
        )
        if torch.version.cuda and capability < OLDEST_GPU:
            problems.append(f"cuda:{number} has capability {capability}; the kernels need {OLDEST_GPU} or newer")
    if not torch.cuda.is_available():
        found["gpu"] = "none that PyTorch sees; everything runs on the CPU"
        if shutil.which("nvidia-smi"):
            problems.append("nvidia-smi is here but PyTorch sees no GPU: is this a PyTorch built for CUDA?")
    return {**found, "problems": problems}


def kernels() -> Facts:
    """Find which code computes the competition here, and check that it draws the winners that the definition draws."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    ours = ("PyTorch in tiles that fit the cache", compiler or "needs a C++ compiler; none found")
    competition, compiled = ("Triton kernels", "the same kernels") if device == "cuda" else ours
    found: Facts = {"competition": competition, "under torch.compile": compiled}
    problems = []
    for name, check in {"forward": _forward_is_right, "backward": _backward_is_right}.items():
        try:
            right = check(device)
            found[name] = "agrees with the definition" if right else "differs from the definition"
        except Exception as error:  # any failure is a finding
            right, found[name] = False, f"fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        problems += [] if right else [f"the {name} pass of the competition on {device} {found[name]}"]
    return {**found, "problems": problems}


def _operands(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return responses and a seed for the checks."""
    x = torch.linspace(-3, 3, 1536, device=device).view(2, 768).sin()
    return x, torch.tensor(0, device=device)


def _forward_is_right(device: str) -> bool:
    """Return whether the output of the competition equals that of its definition."""
    x, seed = _operands(device)
    expected = eager.competition.lwta(x.cpu(), 8, "sample", 1.67, 1, seed.cpu())
    return torch.equal(functional.lwta(x, 8, seed=seed).cpu(), expected)


def _backward_is_right(device: str) -> bool:
    """Return whether the gradient of the competition equals that of its definition up to rounding."""
    x, seed = _operands(device)
    expected = eager.competition.lwta_backward(torch.ones(2, 768), x.cpu(), 8, "sample", 1.67, 1, seed.cpu())
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(functional.lwta(x, 8, seed=seed).sum(), x)
    return torch.allclose(gradient.cpu(), expected, atol=1e-4)


def clips(wanted: str | None) -> Facts:
    """Find which CLIP models can be opened.

    Args:
        wanted: name of a model to open besides "tiny", or None.
    """
    names = ["tiny"] + ([wanted] if wanted and wanted != "tiny" else [])
    found: Facts = {}
    problems = []
    for name in names:
        problem = _problem_of(name)
        found[name] = problem or "opens"
        problems += [problem] if problem else []
    found["on this machine"] = ", ".join(_cached()) or "no downloaded weights"
    return {**found, "problems": problems}


def _problem_of(clip: str) -> str | None:
    """Return why a CLIP model cannot be opened; None if it can."""
    try:
        ClipEncoder(clip)
    except (ValueError, RuntimeError, OSError) as error:
        return str(error).splitlines()[0]
    return None


def _cached() -> list[str]:
    """Return the names of the CLIP repositories in the cache of the Hugging Face hub."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folders = Path(HF_HUB_CACHE).glob("models--*")
    names = sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)
    return [name for name in names if "clip" in name.lower()]


def _text(findings: dict[str, Facts], problems: list[str]) -> str:
    """Return the findings as tables, followed by the problems."""
    parts = []
    for title, facts in findings.items():
        columns = [Column(title, list(facts)), Column("", [str(value) for value in facts.values()])]
        parts.append(text_table(columns))
    parts.append("\n".join(f"problem: {line}" for line in problems) if problems else "Nothing is wrong.")
    return "\n\n".join(parts)
