"""What a network computes beyond weights and repr: each change is noticed, and nothing else is taken for one."""

from __future__ import annotations

import copy
import importlib.util
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from lwta import convert, create_model
from lwta.dissection.store.code import fingerprint_code
from lwta.dissection.store.opening import check_network
from tests.support.places import ROOT
from tests.support.stores import World, same

SOURCE = """
import torch
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from torch import nn

FACTOR, STEPS, LOG = 2.0, [1, 2], []


@dataclass
class Settings:
    depth: int = 3


def activation(x):
    return torch.relu(x)


def logged(function):
    @wraps(function)
    def wrapper(self, x):
        LOG.append(len(x))
        return function(self, x)
    return wrapper


class Base(nn.Module):
    bias = 0.5

    def around(self, x):
        return x


class Own(Base):
    def __init__(self, scale=1.0, kind="relu"):
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.kind, self.steps, self.settings = scale, kind, [4, 8], Settings()
        self.device, self.file = "cpu", "/tmp/weights"
        self.calls, self.seen, self.cache, self.function = 0, [], {}, activation
        self.mean = torch.tensor(0.5)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
        self.register_buffer("shift", torch.zeros(1), persistent=False)

    @property
    def gain(self):
        return self.scale * FACTOR * STEPS[0]

    @logged
    def forward(self, x):
        self.calls += 1
        self.seen.append(x.mean().item())
        self.cache[len(x)] = x.mean().item()
        self.last = float(x.max())
        x = self.around(self.conv(x * self.gain + self.shift - self.mean))
        x = activation(x) if self.kind == "relu" else torch.tanh(x)
        return self.head(x.mean((2, 3)) + self.bias)

    def training_step(self, batch):
        return self(batch).sum()
"""


def module_of(folder: Path, source: str = SOURCE, name: str = "mine") -> Any:
    """The source as a module of this name, not entered into `sys.modules` for good."""
    path = folder / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def edited(before: str, after: str) -> str:
    assert before in SOURCE
    return SOURCE.replace(before, after)


NOTICED = {
    "forward": ('if self.kind == "relu" else torch.tanh(x)', 'if self.kind == "relu" else torch.sin(x)'),
    "method": ("        return x\n\n\nclass Own", "        return -x\n\n\nclass Own"),
    "class attribute": ("bias = 0.5", "bias = 0.25"),
    "function of the module": ("torch.relu(x)", "torch.selu(x)"),
    "constant of the module": ("FACTOR, STEPS, LOG = 2.0", "FACTOR, STEPS, LOG = 4.0"),
    "list of the module": ("[1, 2], []", "[3, 2], []"),
    "property": ("self.scale * FACTOR", "self.scale / FACTOR"),
    "decorator": ("return function(self, x)", "return function(self, 2 * x)"),
    "overridden method": (
        "    def training_step",
        "    def around(self, x):\n        return x + 1\n\n    def training_step",
    ),
    "dataclass": ("depth: int = 3", "depth: int = 4"),
    "list": ("[4, 8]", "[4, 9]"),
    "function held": ("{}, activation", "{}, torch.tanh"),
    "tensor held": ("torch.tensor(0.5)", "torch.tensor(0.25)"),
    "buffer": ("torch.zeros(1), persistent", "torch.ones(1), persistent"),
}
UNNOTICED = {
    "comment": ("        x = self.around", "        # the convolution\n        x = self.around"),
    "docstring": ("    def forward(self, x):\n", '    def forward(self, x):\n        """Logits."""\n'),
    "formatting": ("x * self.gain + self.shift - self.mean", "(x * self.gain) + self.shift  -  self.mean"),
    "code that forward does not reach": ("self(batch).sum()", "self(batch).mean()"),
    "device": ('"cpu", "/tmp/weights"', '"cuda:1", "/home/me/weights"'),
}


@pytest.mark.parametrize("change", NOTICED)
def test_code_that_computes_something_else_is_noticed(tmp_path: Path, change: str) -> None:
    before = fingerprint_code(module_of(tmp_path).Own())
    assert fingerprint_code(module_of(tmp_path, edited(*NOTICED[change]), "other").Own()) != before


@pytest.mark.parametrize("change", UNNOTICED)
def test_code_that_computes_the_same_is_the_same(tmp_path: Path, change: str) -> None:
    before = fingerprint_code(module_of(tmp_path).Own())
    assert fingerprint_code(module_of(tmp_path, edited(*UNNOTICED[change]), "other").Own()) == before


def test_what_happens_to_a_network_in_use_is_no_change(tmp_path: Path) -> None:
    mine = module_of(tmp_path)
    network, observed = mine.Own(), []
    before = fingerprint_code(network)
    network.train()
    network(torch.rand(2, 3, 5, 5))
    network.eval()
    network(torch.rand(1, 3, 5, 5))
    assert (network.calls, len(network.seen), len(network.cache)) == (2, 2, 2)
    assert fingerprint_code(network) == before

    def observe(module: nn.Module, inputs: Any, output: Tensor) -> None:
        observed.append(output.shape)
        module.shape = output.shape  # type: ignore[assignment]

    network.head.register_forward_hook(observe)
    network(torch.rand(2, 3, 5, 5))
    assert fingerprint_code(network) == before
    assert fingerprint_code(copy.deepcopy(network)) == before
    sys.modules["mine"] = mine
    try:
        assert fingerprint_code(pickle.loads(pickle.dumps(mine.Own()))) == before
    finally:
        del sys.modules["mine"]


@pytest.mark.slow
def test_another_process_and_another_name_of_the_module_find_the_same(tmp_path: Path) -> None:
    """As for a script that is run, and then imported by the command line."""
    expected = fingerprint_code(module_of(tmp_path).Own())
    tail = "from lwta.dissection.store.code import fingerprint_code\nprint(fingerprint_code(Own()))"
    (tmp_path / "script.py").write_text(f"{SOURCE}\n\n{tail}\n")
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(tmp_path / "script.py")]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == expected


def test_hooks_that_act_are_noticed() -> None:
    class Scaled:
        def __init__(self, factor: float) -> None:
            self.factor = factor

        def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            return (inputs[0] * self.factor,)

        def in_place(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
            inputs[0].mul_(self.factor)

    def with_hook(hook: Callable[..., Any] | None) -> str:
        network = nn.Sequential(nn.Linear(3, 3))
        if hook is not None:
            network[0].register_forward_pre_hook(hook)
        return fingerprint_code(network)

    hooks = [None, Scaled(2), Scaled(3), Scaled(2).in_place, Scaled(3).in_place, lambda module, inputs: inputs[0] + 1]
    prints = [with_hook(hook) for hook in hooks]
    assert len(set(prints)) == len(prints)
    assert prints == [with_hook(hook) for hook in hooks]


def test_functions_and_constants_that_are_put_into_library_modules_are_noticed() -> None:
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 3), nn.MultiheadAttention(4, 2))

    before, replaced, other = fingerprint_code(network()), network(), network()
    assert fingerprint_code(network()) == before
    replaced[0].forward = lambda x: x  # type: ignore[method-assign]
    assert fingerprint_code(replaced) != before
    other[1].num_heads = 4  # type: ignore[assignment]  # its repr does not show it
    assert fingerprint_code(other) != before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_networks_of_libraries_stay_the_same_through_a_forward() -> None:
    for make in (
        lambda: create_model("resnet20", 4, input_size=32),
        lambda: convert(torchvision.models.resnet18(), 2),
        lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
        lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())),
    ):
        network = make().eval()
        before = fingerprint_code(network)
        network(torch.rand(1, 3, 32, 32))
        assert fingerprint_code(network) == before == fingerprint_code(make().eval())


def test_what_holds_itself_is_described() -> None:
    network = nn.Module()
    network.forward = lambda x: x  # type: ignore[method-assign]
    listed: list[Any] = [1]
    listed.append(listed)
    network.listed = listed
    network.callback = network.named_modules
    assert fingerprint_code(network) == fingerprint_code(network)


class Own(nn.Module):
    """Scales, then does what an ordinary network does."""

    def __init__(self, scale: float = 1.0, kind: str = "relu") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale, self.kind, self.calls = scale, kind, 0
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
        self.register_buffer("shift", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 8)."""
        self.calls += 1
        x = self.conv(x * self.scale + self.shift)
        return self.head((torch.relu(x) if self.kind == "relu" else torch.tanh(x)).mean((2, 3)))


def shifted() -> Own:
    network = Own()
    network.shift += 1
    return network


def hooked() -> Own:
    network = Own()
    network.register_forward_pre_hook(lambda module, inputs: (1 - inputs[0],))
    return network


def rewritten() -> Own:
    changed = textwrap.dedent("""
        def forward(self, x):
            return self.head(torch.sin(self.conv(x)).mean((2, 3)))
    """)
    space: dict[str, Any] = {"torch": torch}
    exec(changed, space)
    network = Own()
    network.__class__ = type("Own", (Own,), {"forward": space["forward"]})
    return network


CHANGES: dict[str, Callable[[], Own]] = {
    "attributes": lambda: Own(3.0),
    "attributes ": lambda: Own(kind="tanh"),
    "buffers": shifted,
    "forward": rewritten,
    "hooks": hooked,
}


@pytest.mark.parametrize("part", CHANGES)
def test_a_network_that_computes_something_else_is_refused(tmp_path: Path, part: str) -> None:
    World(Own()).dissect(tmp_path, "head")
    changed = CHANGES[part]()
    with pytest.raises(ValueError, match=r"recorded with another code \(stored: forward .*; now: forward .*\)"):
        World(changed).dissect(tmp_path, "head")
    with pytest.raises(ValueError, match=r"model must be the network that was recorded in .*; it has another code"):
        check_network(tmp_path, changed)
    named = dict(item.split() for item in fingerprint_code(changed).split(", "))
    before = dict(item.split() for item in fingerprint_code(Own()).split(", "))
    assert named[part.strip()] != before[part.strip()]


def test_the_same_network_is_used_again_after_it_ran(tmp_path: Path) -> None:
    world = World(Own())
    first = world.dissect(tmp_path, "head")
    world.calls()
    assert same(first, world.dissect(tmp_path, "head"))
    assert same(first, World(Own()).dissect(tmp_path, "head"))
    assert world.calls() == (0, 0)
    check_network(tmp_path, world.model)
