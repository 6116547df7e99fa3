"""Training in one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from lwta.checks import check_choice
from lwta.images import MissingSplitError, open_images
from lwta.models import config_of
from lwta.models.saving import save_model
from lwta.network import competitions
from lwta.support.files import write_atomically
from lwta.support.processes import Group, own_device, process_group
from lwta.training.batches import Batches, make_batches
from lwta.training.evaluation import Evaluation, evaluate
from lwta.training.folder import own_folder
from lwta.training.log import Row
from lwta.training.recipes import Recipe, find_recipe
from lwta.training.trainer import Trainer


class Training(NamedTuple):
    """Result of `train`.

    Example:
        >>> evaluation = Evaluation(top1=0.9, top5=1.0, loss=0.3, images=100)
        >>> Training(nn.Identity(), [{"epoch": 0, "lr": 0.1}], {"argmax": evaluation}).evaluations["argmax"].top1
        0.9
    """

    model: nn.Module
    """The trained network, in eval mode: the moving average of the weights, if the recipe has one."""
    history: list[Row]
    """Figures of each epoch by name, as in log.csv."""
    evaluations: dict[str, Evaluation]
    """Evaluations on the test data: "sample", one draw; "average", several; "argmax". Without competition, only the
    last; without test data, none."""


def train(
    model: nn.Module,
    data: str | Path | tuple[Batches, Batches | None],
    *,
    recipe: str | Recipe = "cifar",
    out: str | Path | None = None,
    seed: int = 0,
    workers: int = 0,
    device: torch.device | str | None = None,
    amp: Literal["bfloat16", "float16"] | None = None,
    compile: bool = False,
    draws: int = 6,
    checkpoint_every: int | None = None,
    progress: bool = True,
    **settings: Any,
) -> Training:
    """Train a network; a run that was interrupted goes on where it stood, and ends with the same weights.

    With ``out``, that folder gets ``checkpoint.pt`` (everything needed to go on, after each epoch and every
    ``checkpoint_every`` steps), ``log.csv`` (a row for each epoch), and at the end ``model/`` for `lwta.load_model` and
    ``result.json``. Calling again with the same arguments goes on, or returns the finished result; a folder of another
    network, other data or other settings is refused, and so is one in which another training runs. The same seed gives
    the same run; on the CPU to the last bit, with the same number of threads.

    A run whose loss or weights are no longer finite ends, and ``checkpoint.pt`` stays what it was. Calling again with
    another ``lr`` or ``clip_grad`` then goes on from there. If the weights had grown too far by then, begin in another
    folder.

    Under torchrun, the processes share every batch (gloo on CPUs, nccl on GPUs).

    Args:
        model: network of `lwta.create_model`, or another, if ``data`` are batches.
        data: what `lwta.training.open_images` opens, with a train and, if evaluation is wanted, a test split; or
            batches for training, and for evaluation or None.
        recipe: "deit", "resnet", "cifar", or a `Recipe`.
        out: folder; None keeps nothing.
        seed: seed of the order of the images, their augmentation and the winners. The first weights are the model's.
        workers: number of processes that read images; with 0 this process does it.
        device: device to train on; None takes a GPU if there is one.
        amp: type of mixed precision; None trains in the type of the parameters.
        compile: run steps through `torch.compile`.
        draws: number of draws of the averaged evaluation at the end.
        checkpoint_every: steps between two checkpoints within an epoch; None writes them after epochs only.
        progress: show a bar with the loss, accuracies, share of active units, winner entropy and dead units.
        **settings: settings of the recipe to change, such as ``epochs=10, lr=0.05``.

    Raises:
        FileNotFoundError: there is no such folder or archive.
        ValueError: the data cannot be opened, or has more classes than the network has outputs; a setting or a label is
            unknown or out of range; ``out`` holds a run with other settings or a damaged checkpoint, or another
            training uses it; the loss or the weights are no longer finite.

    Example:
        >>> import torch
        >>> from lwta import LWTA
        >>> from lwta.training import TensorBatches
        >>> inputs, targets = torch.randint(256, (64, 1, 4, 4), dtype=torch.uint8), torch.arange(64) % 2
        >>> batches = TensorBatches(inputs, targets, 32, shuffle=True)
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), LWTA(2), nn.Linear(8, 2))
        >>> len(train(model, (batches, None), epochs=2, batch_size=32, device="cpu", progress=False).history)
        2
    """
    chosen = find_recipe(recipe, **settings)
    if amp is not None:
        check_choice("amp", amp, ("bfloat16", "float16"))
    place = own_device(device)
    with process_group(place) as group:
        model = model.to(place)
        if not isinstance(data, tuple):
            data = _open(model, data, chosen, workers, seed, group)
        elif data[0].batch_size != chosen.batch_size:
            chosen = chosen.changed(batch_size=data[0].batch_size)
        trainer = Trainer(
            model,
            *data,
            chosen,
            out=None if out is None else Path(out),
            seed=seed,
            amp=None if amp is None else getattr(torch, amp),
            compile=compile,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
        with own_folder(None if out is None else Path(out), group):
            trainer.run()
            result = trainer.result.eval()
            evaluations = {} if data[1] is None else _evaluations(result, data[1], draws)
            if out is not None and group.rank == 0:
                _write(result, evaluations, Path(out))
    return Training(result, trainer.history, evaluations)


def _open(
    model: nn.Module, source: str | Path, recipe: Recipe, workers: int, seed: int, group: Group
) -> tuple[Batches, Batches | None]:
    """Open a source of images as batches for training and, if it has a test split, for evaluation."""
    config = config_of(model)
    images = open_images(source, "train")
    if len(images.classes) > config.num_classes:
        raise ValueError(f"data has {len(images.classes)} classes, but the network has {config.num_classes} outputs")
    training = make_batches(
        images, config, recipe.batch_size, augmentation=recipe.augmentation, workers=workers, seed=seed, group=group
    )
    try:
        test = open_images(source, "test")
    except MissingSplitError:
        return training, None
    if list(test.classes) != list(images.classes):
        raise ValueError(f"the classes of train and test must be the same, got {images.classes} and {test.classes}")
    return training, make_batches(test, config, recipe.batch_size, workers=workers, seed=seed, group=group)


def _evaluations(model: nn.Module, batches: Batches, draws: int) -> dict[str, Evaluation]:
    """Evaluate a network in each way that `Training.evaluations` lists."""
    argmax = evaluate(model, batches, mode="argmax")
    if not any(True for _ in competitions(model)):
        return {"argmax": argmax}
    average = evaluate(model, batches, draws=draws)
    return {"sample": evaluate(model, batches), "average": average, "argmax": argmax}


def _write(model: nn.Module, evaluations: dict[str, Evaluation], out: Path) -> None:
    """Write the results of a finished run into its folder."""
    if hasattr(model, "lwta_config"):
        save_model(model, out / "model")
    text = json.dumps({name: found._asdict() for name, found in evaluations.items()}, indent=1) + "\n"
    write_atomically(out / "result.json", lambda path: path.write_text(text, encoding="utf-8"))
