"""Training loop, which can be interrupted at any step."""

from __future__ import annotations

import math
import time
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
from lwta.support.files import remove_abandoned
from lwta.support.seeds import derive, seed_all
from lwta.training.batches import Batches
from lwta.training.divergence import DIVERGED, REMEDIES, count_broken, finite_tensors, note_divergence
from lwta.training.evaluation import check_labels, evaluate
from lwta.training.log import Board, Row, bar_text, write_table
from lwta.training.optimization import make_moving_average, make_optimizer, make_temperature_schedule, wrapped
from lwta.training.recipes import Recipe
from lwta.training.state import load_state, network_settings, random_state, save_state, set_random_state
from lwta.winner_usage import usage

CHECKPOINT, TABLE = "checkpoint.pt", "log.csv"
_MONITORED = 2  # batches whose winners are counted after each epoch


class Trainer:
    """Run of training: the network, its optimiser and schedules, and how far it has come.

    Args:
        model: the network, on its device.
        train: batches to train on.
        test: batches to evaluate on after each epoch, or None.
        recipe: settings of the training.
        out: folder for the checkpoint and the log, which no other training uses, or None to keep nothing.
        seed: seed of the winners.
        amp: type of mixed precision, or None.
        compile: run steps through ``torch.compile``.
        checkpoint_every: steps between two checkpoints within an epoch; None writes them after epochs only.
        progress: show a bar.

    Raises:
        ValueError: a setting is unknown or out of range.
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
        self.temperature = make_temperature_schedule(model, recipe) if self._competes else None
        self.optimizer, self.scheduler = make_optimizer(model, recipe, len(train))
        self.ema = make_moving_average(model, recipe.ema)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=amp == torch.float16)
        self._forward = wrapped(model, self.device, self.group.world_size, compile)
        self.epoch, self.step = 0, 0
        self.history: list[Row] = []
        # loss, correct predictions and images of this epoch
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self._seconds = 0.0
        self._watched = finite_tensors(model)

    @property
    def result(self) -> nn.Module:
        """Network that is evaluated and saved: the moving average of the weights, if there is one."""
        return self.model if self.ema is None else self.ema.module

    def run(self) -> None:
        """Train to the end, from where the run in the folder stands.

        Raises:
            ValueError: the folder holds another run or a damaged checkpoint; a label is not the index of an output; the
                loss or the weights are no longer finite, in which case the last finite checkpoint stays.
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
        """Train to the end of the present epoch."""
        began = time.perf_counter() - self._seconds
        self.model.train()
        for inputs, targets in self.train.epoch(self.epoch, self.step):
            self._take_step(inputs.to(self.device, non_blocking=True), targets)
            self.step += 1
            self._seconds = time.perf_counter() - began
            bar.update()
            if bar.n % 10 == 0:
                loss, correct, images = self._sums.tolist()
                last = bar_text(self.history[-1]) if self.history else {}
                images = max(images, 1)
                bar.set_postfix(epoch=self.epoch, loss=f"{loss / images:.3f}", train=f"{correct / images:.1%}", **last)
            if self._checkpoint_every and self.step % self._checkpoint_every == 0 and self.step < len(self.train):
                if self._out is not None:
                    self._finite_sums()
                self._save()
        self._end_epoch()

    def _take_step(self, inputs: Tensor, targets: Tensor) -> None:
        """Take one step of optimiser, schedule and moving average, and add up the figures of the epoch."""
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
        correct = (logits.detach().argmax(1) == targets).sum()
        sums = torch.stack([loss.detach() * len(targets), correct, correct.new_tensor(len(targets))])
        if self.scaler.is_enabled():  # the scaler skips a step whose loss overflows in float16: it does not count
            sums = sums.where(loss.isfinite(), 0)
        self._sums += sums

    def _finite_sums(self) -> list[float]:
        """Return loss, correct predictions and images of this epoch so far, over all processes; waits for the device.

        Raises:
            ValueError: in one of the processes, the loss or a weight is no longer finite.
        """
        sums = torch.cat([self._sums, self._count_broken().view(1)])
        loss, correct, images, broken = self.group.sum(sums).tolist()
        if not math.isfinite(loss):
            raise self._divergence("loss is")
        if broken:
            raise self._divergence("weights are")
        return [loss, correct, images]

    def _count_broken(self) -> Tensor:
        """Return how many parameters and buffers that were finite at the start are no longer, 0-dim float64."""
        return count_broken({self.model, self.result}, self._watched, self.device)

    def _divergence(self, what: str) -> ValueError:
        """Return the error that says that the run diverged and how it can go on; note it in the run's folder."""
        text = f"the {what} no longer finite in epoch {self.epoch}; lower lr or set clip_grad"
        if self._out is not None and (path := self._out / CHECKPOINT).exists():
            if self.group.rank == 0:
                note_divergence(self._out, self.epoch, self.step)
            text += f", and the run goes on from its last finite checkpoint, {path}; or begin anew in another folder"
        return ValueError(text)

    def _end_epoch(self) -> None:
        """Add the row of the epoch that has ended to the history, and save the run."""
        loss, correct, images = self._finite_sums()
        if not images:  # every step was skipped
            raise self._divergence("loss is")
        row: Row = {"epoch": self.epoch, "lr": self.optimizer.param_groups[0]["lr"]}
        if self.temperature is not None:
            row["temperature"] = self.temperature.temperature
            self.temperature.step()
        row |= {"train_loss": loss / images, "train_top1": correct / images, "seconds": self._seconds}
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
        """Settings that must be the same for a run to go on; unknown ones are left out."""
        own = {
            "seed": self.seed,
            "processes": self.group.world_size,
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
        """Return the parts of the run that have a ``state_dict``, by name."""
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
        """Write checkpoint and table into the run's folder, if it has one."""
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
        """Go on where the run in the folder stands, if there is one.

        Raises:
            ValueError: the run is another one, its checkpoint is damaged, or its weights are not finite.
        """
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
        if self._count_broken():
            raise ValueError(f"the weights in {path} are not finite; begin anew in another folder, with a lower lr")

    def _restore(self, state: dict[str, Any]) -> None:
        """Take over everything from the state of a run."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.epoch, self.step, self._seconds = state["epoch"], state["step"], state["seconds"]
        self.history = state["history"]
        self._sums = torch.tensor(state["sums"][self.group.rank], dtype=torch.float64, device=self.device)
        set_random_state(state["generators"][self.group.rank], self.device)


def _tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state dict, without the entries of other types that modules may add."""
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
