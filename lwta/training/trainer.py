"""The training loop, which can be interrupted at any step."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lwta.loss import ELBOLoss
from lwta.models.checkpoint import mismatches
from lwta.network import competitions
from lwta.schedule import TemperatureSchedule
from lwta.support.files import remove_abandoned, write_atomically
from lwta.support.seeds import derive, seed_all
from lwta.training.batches import Batches
from lwta.training.evaluation import check_labels, evaluate
from lwta.training.log import Board, Row, bar_text, write_table
from lwta.training.recipes import Recipe
from lwta.training.state import load_state, network_settings, random_state, save_state, set_random_state
from lwta.winner_usage import usage

CHECKPOINT, TABLE = "checkpoint.pt", "log.csv"
DIVERGED = "diverged.json"  # there as long as the run has not come past the checkpoint after which it diverged
REMEDIES = ("lr", "clip_grad")  # settings with which a run that diverged may go on
_MONITORED = 2  # batches whose winners are counted after each epoch


class Trainer:
    """A run: the network, its optimiser and schedules, and how far it has come.

    Args:
        model: the network, on its device.
        train: batches to train on.
        test: batches to evaluate on after each epoch, or None.
        recipe: the numbers.
        out: folder for the checkpoint and the log, which no other training uses, or None to keep nothing.
        seed: of the winners.
        amp: type of mixed precision, or None.
        compile: whether steps run through ``torch.compile``.
        checkpoint_every: steps between two checkpoints within an epoch; None writes them after epochs only.
        progress: whether to show a bar.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Batches,
        test: Batches | None,
        recipe: Recipe,
        *,
        out: Path | None,
        seed: int,
        amp: torch.dtype | None,
        compile: bool,
        checkpoint_every: int | None,
        progress: bool,
    ) -> None:
        self.model, self.train, self.test, self.recipe, self.seed = model, train, test, recipe, seed
        self.device = next(model.parameters()).device
        self.group = train.group
        self._out, self._amp, self._checkpoint_every = out, amp, checkpoint_every
        self._progress = progress and self.group.rank == 0
        self._competes = any(True for _ in competitions(model))
        self.loss = ELBOLoss(model, kl_weight=recipe.kl_weight, label_smoothing=recipe.label_smoothing)
        self.temperature = _temperature(model, recipe) if self._competes else None
        self.optimizer, self.scheduler = _optimizer(model, recipe, len(train))
        self.ema = _ema(model, recipe.ema)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == torch.float16)
        self._forward = _wrapped(model, self.device, self.group.world_size, compile)
        self.epoch, self.step = 0, 0
        self.history: list[Row] = []
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, right ones, images of this epoch
        self._seconds = 0.0
        self._watched = [name for name, value in model.state_dict().items() if _is_finite(value)]

    @property
    def result(self) -> nn.Module:
        """The network that is evaluated and saved: the moving average, if there is one."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> None:
        """Train to the end, from where the run in the folder stands.

        Raises:
            ValueError: the folder holds another run or a damaged checkpoint; a label is none of the outputs; the loss
                or the weights are no longer finite, in which case the last finite checkpoint stays.
        """
        seed_all(derive(self.seed, self.group.rank))
        if self._out is not None:
            self._resume(self._out)
        board = Board(self._out / "tensorboard") if self._out is not None and self.group.rank == 0 else None
        steps = len(self.train)
        with tqdm(
            total=self.recipe.epochs * steps,
            initial=self.epoch * steps + self.step,
            desc="training",
            unit="step",
            disable=not self._progress,
        ) as bar:
            while self.epoch < self.recipe.epochs:
                self._run_epoch(bar)
                if board is not None:
                    board.add(self.history[-1])

    def _run_epoch(self, bar: tqdm) -> None:
        began = time.perf_counter() - self._seconds
        self.model.train()
        for inputs, targets in self.train.epoch(self.epoch, self.step):
            self._take_step(inputs.to(self.device, non_blocking=True), targets)
            self.step += 1
            self._seconds = time.perf_counter() - began
            bar.update()
            if bar.n % 10 == 0:
                loss, right, images = self._sums.tolist()
                last = bar_text(self.history[-1]) if self.history else {}
                images = max(images, 1)
                bar.set_postfix(epoch=self.epoch, loss=f"{loss / images:.3f}", train=f"{right / images:.1%}", **last)
            if self._checkpoint_every and self.step % self._checkpoint_every == 0 and self.step < len(self.train):
                if self._out is not None:
                    self._finite_sums()
                self._save()
        self._end_epoch()

    def _take_step(self, inputs: Tensor, targets: Tensor) -> None:
        with torch.autocast(self.device.type, self._amp, enabled=self._amp is not None):
            logits = self._forward(inputs)
            check_labels(targets, logits.shape[-1])
            targets = targets.to(self.device, non_blocking=True)
            loss = self.loss(logits, targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if self.recipe.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        steps = self.epoch * len(self.train) + self.step + 1
        self.scheduler.step_update(steps)
        if self.ema is not None:
            self.ema.update(self.model, step=steps)
        right = (logits.detach().argmax(1) == targets).sum()
        found = torch.stack([loss.detach() * len(targets), right, right.new_tensor(len(targets))])
        if self.scaler.is_enabled():  # a step whose loss overflows in float16 is passed over, and so not counted
            found = found.where(loss.isfinite(), 0)
        self._sums += found

    def _finite_sums(self) -> list[float]:
        """Loss, right ones and images of this epoch so far, of all processes; waits for the device.

        Raises:
            ValueError: in one of the processes, the loss or a weight is no longer finite.
        """
        found = torch.cat([self._sums, self._broken_weights().view(1)])
        loss, right, images, broken = self.group.sum(found).tolist()
        if not math.isfinite(loss):
            raise self._divergence("loss is")
        if broken:
            raise self._divergence("weights are")
        return [loss, right, images]

    def _broken_weights(self) -> Tensor:
        """How many tensors of the network have lost their finite values; 0-dim, float64."""
        broken = torch.zeros((), dtype=torch.float64, device=self.device)
        for model in {self.model, self.result}:
            state = model.state_dict()
            for name in self._watched:
                broken += ~state[name].isfinite().all()
        return broken

    def _divergence(self, what: str) -> ValueError:
        """The error that says that the run diverged, and how it can go on."""
        text = f"the {what} no longer finite in epoch {self.epoch}; lower lr or set clip_grad"
        if self._out is not None and (path := self._out / CHECKPOINT).exists():
            if self.group.rank == 0:
                where = json.dumps({"epoch": self.epoch, "step": self.step}) + "\n"
                write_atomically(self._out / DIVERGED, lambda file: file.write_text(where, encoding="utf-8"))
            text += f", and the run goes on from its last finite checkpoint, {path}; or begin anew in another folder"
        return ValueError(text)

    def _end_epoch(self) -> None:
        loss, right, images = self._finite_sums()
        if not images:  # every step was passed over
            raise self._divergence("loss is")
        row: Row = {"epoch": self.epoch, "lr": self.optimizer.param_groups[0]["lr"]}
        if self.temperature is not None:
            row["temperature"] = self.temperature.temperature
            self.temperature.step()
        row |= {"train_loss": loss / images, "train_top1": right / images, "seconds": self._seconds}
        if self.test is not None:
            found = evaluate(self.result, self.test)
            row |= {"test_loss": found.loss, "test_top1": found.top1, "test_top5": found.top5}
        if self._competes and self.group.rank == 0:
            used = usage(self.result, self.test or self.train, batches=_MONITORED)
            kl = sum(layer.kl for layer in used.layers)
            row |= {"active": used.active, "entropy": used.entropy, "dead": used.dead, "kl": kl}
        self.history.append(row)
        self.epoch, self.step, self._seconds = self.epoch + 1, 0, 0.0
        self._sums.zero_()
        self._save()

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """What must be the same for a run to go on; what is not known here is left out."""
        own = {
            "seed": self.seed,
            "processes": self.group.world_size,
            "images": self.train.images,
            "amp": str(self._amp),
        }
        data = {
            "images": self.train.images,
            "seed of the data": self.train.seed,
            "digest of the data": self.train.fingerprint(),
            "digest of the test data": None if self.test is None else self.test.fingerprint(),
        }
        known = {name: value for name, value in data.items() if value is not None}
        return {**asdict(self.recipe), **own, "network": network_settings(self.model), **known}

    def _parts(self) -> dict[str, Any]:
        """Everything with a ``state_dict``."""
        parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "temperature": self.temperature,
            "ema": None if self.ema is None else self.ema.module,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def _save(self) -> None:
        if self._out is None:
            return
        generators = self.group.gather(random_state(self.device))
        sums = self.group.gather(self._sums.tolist())
        if self.group.rank == 0:
            state = {name: part.state_dict() for name, part in self._parts().items()}
            position = {"epoch": self.epoch, "step": self.step, "history": self.history, "seconds": self._seconds}
            state |= {**position, "sums": sums, "generators": generators, "settings": self._settings}
            save_state(state, self._out / CHECKPOINT)
            (self._out / DIVERGED).unlink(missing_ok=True)
            if self.history:
                write_table(self.history, self._out / TABLE)
        self.group.wait()

    def _resume(self, out: Path) -> None:
        """Go on where the run in the folder stands, if there is one."""
        path, diverged = out / CHECKPOINT, (out / DIVERGED).exists()
        state = load_state(path, self._settings, changeable=REMEDIES if diverged else ())
        if self.group.rank == 0:
            remove_abandoned(out)
        if state is None:
            return
        if problems := mismatches(_tensors(state["model"]), _tensors(self.model.state_dict())):
            raise ValueError(f"{path} is of another network ({problems}); choose another folder")
        if diverged:  # the rates may be others
            state["optimizer"]["param_groups"] = self.optimizer.state_dict()["param_groups"]
            state["scheduler"] = self.scheduler.state_dict()
        self._restore(state)
        if diverged:
            self.scheduler.step_update(self.epoch * len(self.train) + self.step)
        if self._broken_weights():
            raise ValueError(f"the weights in {path} are not finite; begin anew in another folder, with a lower lr")

    def _restore(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.step, self._seconds = state["epoch"], state["step"], state["seconds"]
        self.history = state["history"]
        self._sums = torch.tensor(state["sums"][self.group.rank], dtype=torch.float64, device=self.device)
        set_random_state(state["generators"][self.group.rank], self.device)


def _temperature(model: nn.Module, recipe: Recipe) -> TemperatureSchedule:
    return TemperatureSchedule(
        model,
        recipe.temperature,
        kind=recipe.temperature_schedule,
        end=recipe.temperature_end,
        factor=recipe.temperature_factor,
        every=recipe.temperature_every,
        total=recipe.epochs,
    )


def _optimizer(model: nn.Module, recipe: Recipe, steps: int) -> tuple[torch.optim.Optimizer, Any]:
    """Timm's optimiser, without weight decay on biases and norms, and its schedule, which follows steps."""
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    scale = recipe.batch_size / recipe.lr_batch if recipe.lr_batch else 1.0
    optimizer = create_optimizer_v2(
        model,
        recipe.optimizer,
        lr=recipe.lr * scale,
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
    )
    scheduler, _ = create_scheduler_v2(
        optimizer,
        recipe.schedule,
        num_epochs=recipe.epochs,
        decay_epochs=recipe.decay_epochs,
        decay_rate=recipe.decay_rate,
        min_lr=recipe.min_lr,
        warmup_lr=recipe.warmup_lr,
        warmup_epochs=min(recipe.warmup_epochs, recipe.epochs - 1),
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    return optimizer, scheduler


def _ema(model: nn.Module, decay: float | None) -> Any:
    from timm.utils import ModelEmaV3

    return None if decay is None else ModelEmaV3(model, decay=decay, use_warmup=True)


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    """The entries of a state dict less what modules add in forms of their own."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _is_finite(value: Any) -> bool:
    """Whether this entry of a state dict is a tensor that can lose its finite values."""
    return isinstance(value, Tensor) and value.is_floating_point() and bool(value.isfinite().all())


def _wrapped(model: nn.Module, device: torch.device, world_size: int, compile: bool) -> Callable[[Tensor], Tensor]:
    """The network as steps call it: data-parallel among several processes, compiled on demand."""
    forward: Any = model
    if world_size > 1:
        devices = [device.index] if device.type == "cuda" else None
        forward = nn.parallel.DistributedDataParallel(model, device_ids=devices)
    return torch.compile(forward) if compile else forward
