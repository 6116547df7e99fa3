"""The fingerprint of a network's code while the network is in use, and of code that is reached in less usual ways."""

from __future__ import annotations

import copy
import importlib.util
import os
import subprocess
import sys
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lwta.dissection.store.code import fingerprint_code
from lwta.dissection.store.transform_text import describe


def count_call(module: Any, x: Tensor) -> Tensor:
    module.calls += 1
    return x


class HeldFunction(nn.Module):
    """Changes a setting by a function that it holds as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.function = partial(count_call, self)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Meter:
    def __init__(self) -> None:
        self.total = 0

    def update(self, value: int) -> None:
        self.total += value


class HeldMethod(nn.Module):
    """Counts by the method of an object that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Meter().update

    def forward(self, x: Tensor) -> Tensor:
        self.count(len(x))
        return x


class Counts(nn.Module):
    """Counts in a namespace, and by ``setattr``."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics, self.calls = SimpleNamespace(images=0, factor=2.0), 0

    def forward(self, x: Tensor) -> Tensor:
        self.statistics.images += len(x)
        setattr(self, "calls", self.calls + 1)  # noqa: B010
        return x * self.statistics.factor


class Logs(nn.Module):
    """Appends to a list that it calls otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        seen = self.log
        seen.append(len(x))
        return x


class Computes(nn.Module):
    """Computes what it needs on first use."""

    @cached_property
    def ramp(self) -> Tensor:
        return torch.arange(4.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ramp


class Averages(nn.Module):
    """Changes buffers and tensors in place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.register_buffer("last", torch.zeros(4), persistent=False)
        self.largest = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.mean(0))
        self.last[:] = x[-1]
        self.largest.copy_(x.amax(0))
        return x


@pytest.mark.parametrize("kind", [HeldFunction, HeldMethod, Counts, Logs, Computes, Averages])
def test_what_a_network_changes_itself_is_no_change(kind: type[nn.Module]) -> None:
    network = kind()
    before = fingerprint_code(network)
    network(torch.rand(2, 4))
    network(torch.rand(3, 4))
    assert fingerprint_code(network) == before
    assert fingerprint_code(copy.deepcopy(network)) == before


def test_the_settings_beside_a_count_are_noticed() -> None:
    network = Counts()
    before = fingerprint_code(network)
    network.statistics.factor = 3.0
    assert fingerprint_code(network) != before


class Doubling(nn.Module):
    def features(self, x: Tensor) -> Tensor:
        return 2 * x

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Tripling(Doubling):
    def features(self, x: Tensor) -> Tensor:
        return 3 * x


class Outer(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.features(x)


def test_methods_that_one_module_calls_of_another_are_noticed() -> None:
    assert fingerprint_code(Outer(Doubling())) != fingerprint_code(Outer(Tripling()))
    assert fingerprint_code(Outer(Doubling())) == fingerprint_code(Outer(Doubling()))


def test_hooks_that_change_the_items_of_tensors_are_noticed() -> None:
    kept: dict[str, Any] = {}

    def clears(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        output[:, 0] = 0

    def scales(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        output *= 2

    def clears_inputs(module: nn.Module, inputs: tuple[Tensor]) -> None:
        inputs[0][0] = 0

    def observes(module: nn.Module, inputs: tuple[Tensor], output: Tensor, store: Any = kept) -> None:
        store["output"] = kept["output"] = output.requires_grad_()

    def observes_by_name(name: str, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        kept[name] = output

    def with_hook(hook: Any, kind: str = "register_forward_hook") -> str:
        network = nn.Sequential(nn.Identity())
        getattr(network[0], kind)(hook)
        return fingerprint_code(network)

    plain = fingerprint_code(nn.Sequential(nn.Identity()))
    acting = [with_hook(clears), with_hook(scales), with_hook(clears_inputs, "register_forward_pre_hook")]
    assert len({plain, *acting}) == 4
    assert with_hook(observes) == with_hook(partial(observes_by_name, "first")) == plain


def affine(x: Tensor) -> Tensor:
    return 2 * x + 1


torch.fx.wrap("affine")


def test_the_code_of_traced_networks_counts() -> None:
    """Wherever the code that was traced lies, and however often the graph was copied."""
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.models.resnet import BasicBlock

    def extracted() -> torch.fx.GraphModule:
        return create_feature_extractor(BasicBlock(4, 4), ["relu_1"])

    network, other = extracted(), extracted()
    assert fingerprint_code(network) == fingerprint_code(other) == fingerprint_code(copy.deepcopy(network))
    call = next(node for node in other.graph.nodes if node.op == "call_function")
    call.target = torch.sub
    other.recompile()
    assert fingerprint_code(other) != fingerprint_code(network)


def test_functions_that_traced_networks_call_count(monkeypatch: pytest.MonkeyPatch) -> None:
    class Calls(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return affine(x)

    traced = torch.fx.symbolic_trace(Calls())
    before = fingerprint_code(traced)
    monkeypatch.setattr(affine, "__code__", (lambda x: 3 * x).__code__)
    assert fingerprint_code(traced) != before


SOURCE = """
import torch
from torch import nn

class Own(nn.Module):
    def forward(self, x):
        return x * 2

def transform(image):
    return 1
"""


def loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("edited", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_file_that_was_edited_after_it_was_imported_does_not_speak_for_the_code(tmp_path: Path) -> None:
    """As in a notebook: what the old code records must not pass for what the new code computes."""
    path = tmp_path / "edited.py"
    path.write_text(SOURCE)
    before = loaded(path)
    assert describe(before.transform) == describe(loaded(path).transform)
    path.write_text(SOURCE.replace("* 2", "* 33").replace("return 1", "return 22"))
    os.utime(path, ns=(1, 1))  # no bytecode of the old file is taken for that of the new one
    after = loaded(path)
    assert fingerprint_code(before.Own()) != fingerprint_code(after.Own())
    assert describe(before.transform) != describe(after.transform)


@pytest.mark.slow
def test_code_without_a_file_is_the_same_in_every_process() -> None:
    """Sets of texts have another order in each."""
    program = (
        "from torch import nn\n"
        "from lwta.dissection.store.code import fingerprint_code\n"
        "from lwta.dissection.store.transform_text import describe\n"
        "class Own(nn.Module):\n"
        "    kind = 'a'\n"
        "    def forward(self, x): return x if self.kind in {'a', 'bc', 'def'} else -x\n"
        "def transform(x): return x in {'a', 'bc', 'def'}\n"
        "print(list({'a', 'bc', 'def'}), fingerprint_code(Own()), describe(transform), sep='|')"
    )
    orders, found = set(), set()
    for seed in "03":
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", program]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        order, _, texts = printed.partition("|")
        orders.add(order)
        found.add(texts)
    assert (len(orders), len(found)) == (2, 1)
