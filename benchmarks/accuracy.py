"""Accuracy with and without competition on small real data, on the CPU; each run is stored as soon as it is done.

Three parts: ResNet-20 from scratch with ReLU (U = 1) and with U = 2 and 4, the same recipe, budget and placement of the
activations for all, and the ordinary ResNet-20, with ReLU behind its additions as well; a network that the method's
authors trained, evaluated in every way; the digits of the demo. The first two need the images and the checkpoint of
../shared/data beside the checkout, and are left out where it is missing.

Runs go through as many processes as there are cores, each with one thread: so figures do not depend on the machine's
number of cores. All runs take about 25 minutes on two cores.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from lwta import calibrate, create_model, set_eval_mode
from lwta.models import digits
from lwta.models.config import Placement
from lwta.support.files import write_atomically
from lwta.training import TensorBatches, crop_and_flip, evaluate, find_recipe, open_images, train
from lwta.training.batches import in_memory

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
IMAGES, CHECKPOINT = DATA / "cifar10-part.zip", DATA / "lwta-wrn34-cifar10.pt"
STORE = ROOT / ".benchmarks" / "accuracy"

SIZE = 16  # pixels: the images at a quarter of their area, so that nine runs fit into half an hour on two cores
NORM_SCALE = 4.0  # first scale of the batch norms before a competition: how much responses stand out from the noise
TRAINING_IMAGES = 12_000
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.244, 0.262)
RECIPE = find_recipe("cifar", epochs=8, batch_size=64, lr=0.1)
DRAWS = 6

Row = dict[str, Any]


def run(quick: bool = False) -> list[Row]:
    """A row for each configuration, with the mean and spread over seeds.

    Args:
        quick: one seed, little data and few epochs: whether everything runs, in about two minutes.
    """
    seeds = range(1 if quick else 3)
    jobs = [_digits(U, seed, quick) for U in (2, 4, 8) for seed in seeds]
    if DATA.is_dir():
        jobs += [_Job("trained", "trained", {"images": 100 if quick else 2000})]
        networks = ((4, "branches"), (2, "branches"), (1, "branches"), (1, "everywhere"))
        jobs += [_resnet(U, placement, seed, quick) for seed in seeds for U, placement in networks]
    else:
        print("ResNet-20 and the authors' network are left out: no folder ../shared/data", file=sys.stderr)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as processes:
        runs = list(processes.map(_stored, jobs))
    groups: dict[tuple[str, int, str | None], list[Row]] = {}
    for job, row in zip(jobs, runs, strict=True):
        groups.setdefault((job.network, job.settings.get("U", 2), job.settings.get("placement")), []).append(row)
    budget = {"size": SIZE, "training_images": TRAINING_IMAGES, "epochs": RECIPE.epochs}
    rows = [_summary(*subject, group) for subject, group in groups.items()]
    return [{**row, **(budget if row["network"] == "resnet20" else {})} for row in rows]


class _Job(NamedTuple):
    network: str
    name: str
    """Of the file that keeps its result."""
    settings: Row


def _summary(network: str, U: int, placement: str | None, runs: list[Row]) -> Row:
    """Mean and standard deviation over seeds of every figure."""
    row: Row = {"network": network, "competitors": U, "placement": placement, "seeds": len(runs)}
    for name in runs[0]:
        values = [run[name] for run in runs]
        row[name] = round(statistics.mean(values), 4)
        row[f"{name}_sd"] = round(statistics.stdev(values), 4) if len(values) > 1 else None
    return row


def _stored(job: _Job) -> Row:
    """What was measured with these settings, now or before."""
    settings = {**job.settings, "torch": torch.__version__}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    path = STORE / f"{job.name}-{key}.json"
    if path.exists():
        return json.loads(path.read_text())["row"]
    torch.set_num_threads(1)
    measure: dict[str, Callable[..., Row]] = {"digits": _train_digits, "trained": _trained, "resnet20": _train_resnet}
    row = measure[job.network](**job.settings)
    STORE.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": settings, "row": row}, indent=1) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    print(f"{job.name}: {row}", file=sys.stderr)
    return row


def _digits(U: int, seed: int, quick: bool) -> _Job:
    settings = {"U": U, "seed": seed, "epochs": 5 if quick else digits.EPOCHS, "contrast": digits.CONTRAST}
    return _Job("digits", f"digits-{U}-{seed}", settings)


def _train_digits(U: int, seed: int, epochs: int, contrast: float) -> Row:
    training, test = digits.load()
    began = time.perf_counter()
    model = digits.train(training, competitors=U, epochs=epochs, seed=seed, progress=False)
    seconds = time.perf_counter() - began
    loader = [(test.images, test.labels)]
    modes = {"sample": (1, "sample"), "average": (DRAWS, "sample"), "argmax": (1, "argmax")}
    row: Row = {
        name: evaluate(model, loader, draws=draws, mode=mode).top1  # type: ignore[arg-type]
        for name, (draws, mode) in modes.items()
    }
    return {**row, "seconds": round(seconds, 1)}


def _resnet(U: int, placement: Placement, seed: int, quick: bool) -> _Job:
    settings = {
        "U": U,
        "placement": placement,
        "seed": seed,
        "norm_scale": NORM_SCALE if U > 1 else 1.0,
        "images": 1000 if quick else TRAINING_IMAGES,
        "recipe": {**vars(RECIPE), "epochs": 1 if quick else RECIPE.epochs},
    }
    return _Job("resnet20", f"resnet20-{U}-{placement}-{seed}", settings)


def _train_resnet(U: int, placement: Placement, seed: int, norm_scale: float, images: int, recipe: Row) -> Row:
    torch.manual_seed(seed)
    model = create_model("resnet20", U, input_size=SIZE, placement=placement, norm_scale=norm_scale)
    batch, normal = recipe["batch_size"], {"mean": MEAN, "std": STD}
    inputs, targets = _cifar("train")
    chosen = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))[:images]
    inputs, targets = inputs[chosen], targets[chosen]
    training = TensorBatches(inputs, targets, batch, **normal, augment=crop_and_flip, seed=seed, shuffle=True)
    test = TensorBatches(*_cifar("test"), 250, **normal)
    began = time.perf_counter()
    result = train(
        model, (training, None), recipe=find_recipe("cifar", **recipe), seed=seed, device="cpu", progress=False
    )
    row = {"seconds": round(time.perf_counter() - began, 1)}
    if U == 1:
        return {"argmax": evaluate(result.model, test).top1, **row}
    return {**_every_way(result.model, test, TensorBatches(inputs[:2000], targets[:2000], 250, **normal)), **row}


def _every_way(model: nn.Module, test: TensorBatches, training: TensorBatches) -> Row:
    """Accuracy sampled, averaged, under argmax, of expected outputs, under argmax with batch norms measured anew."""
    row: Row = {"sample": evaluate(model, test).top1, "average": evaluate(model, test, draws=DRAWS).top1}
    row["argmax"] = evaluate(model, test, mode="argmax").top1
    row["expected"] = evaluate(model, test, mode="expected").top1
    calibrate(model, training)
    return {**row, "argmax_calibrated": evaluate(model, test, mode="argmax").top1}


def _trained(images: int) -> Row:
    """The authors' WideResNet: ``images`` test images, the same number of each class, 1,000 for calibration."""
    sys.path.insert(0, str(ROOT / "examples"))
    from wide_resnet import load_wide_resnet

    def part(split: str, number: int) -> TensorBatches:
        inputs, targets = in_memory(open_images(IMAGES, split), 32)
        first = torch.cat([(targets == label).nonzero()[: number // 10, 0] for label in range(10)])
        mixed = first[torch.randperm(len(first), generator=torch.Generator().manual_seed(0))]
        return TensorBatches(inputs[mixed], targets[mixed], 250)

    model = load_wide_resnet(CHECKPOINT)
    set_eval_mode(model, "sample")
    row = _every_way(model, part("test", images), part("train", min(images, 1000)))
    return {"images": images, **row}


@cache
def _cifar(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    return in_memory(open_images(IMAGES, split), SIZE)
