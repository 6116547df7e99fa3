"""Conversion of existing networks."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
import torchvision
from torch import nn

from lwta import LWTA, competitions, convert, create_model


def _note_calls(model: nn.Module) -> list[str]:
    """A list that each competitive layer will append its name to when it is called."""
    calls: list[str] = []
    for name, layer in competitions(model):
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls


def test_every_call_of_a_shared_relu_gets_its_own_layer() -> None:
    model = torchvision.models.resnet18(num_classes=10)
    keys = list(model.state_dict())
    assert convert(model, 8) is model
    assert len(list(competitions(model))) == 17  # stem, and two in each of eight blocks
    assert list(model.state_dict()) == keys
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())
    calls = _note_calls(model)
    x = torch.randn(2, 3, 64, 64)
    model(x).sum().backward()
    model.eval()(x)
    assert calls == [name for name, _ in competitions(model)] * 2


def test_bottleneck_calls_relu_three_times() -> None:
    small = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1])
    model = convert(small, 4, include="layer1.0.*")
    assert [name for name, _ in competitions(model)] == [f"layer1.0.relu.{k}" for k in range(3)]


def test_converted_network_copies_and_pickles() -> None:
    model = convert(torchvision.models.resnet18(num_classes=4), 2)
    x = torch.randn(2, 3, 32, 32)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        calls = _note_calls(twin)
        twin(x)
        assert calls == [name for name, _ in competitions(twin)]


@pytest.mark.slow
def test_converted_block_compiles_without_graph_breaks() -> None:
    block = convert(torchvision.models.resnet18().layer1[0], 4, example_input=torch.randn(1, 64, 8, 8))
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        compiled(torch.randn(2, 64, 8, 8)).sum().backward()
    assert block.conv1.weight.grad.isfinite().all()


def test_interrupted_forward_does_not_shift_the_call_sites() -> None:
    model = convert(torchvision.models.resnet18(num_classes=4), 2)
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 5, 32, 32))
    block = model.layer1[0]
    block.relu(torch.randn(1, 64, 4, 4))  # one call outside a forward pass
    calls: list[int] = []
    for k, layer in enumerate(block.relu):
        layer.register_forward_hook(lambda *_, k=k: calls.append(k))
    block(torch.randn(1, 64, 4, 4))
    assert calls == [0, 1]


class _SharedActivation(nn.Module):
    """Two layers of different width that share one activation; the forward pass can be held or broken between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Linear(8, 8), nn.Linear(8, 16), nn.ReLU()

    def between(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.b(self.between(self.relu(self.a(x)))))


def _widths_seen(model: nn.Module) -> list[set[int]]:
    """For each call site, a set to which each of its calls will add the number of blocks that it saw."""
    widths: list[set[int]] = [set() for _ in model.relu]
    for seen, layer in zip(widths, model.relu, strict=True):
        layer.register_winners_hook(lambda _, winners, seen=seen: seen.add(winners.values.shape[-1]))
    return widths


def test_threads_do_not_share_the_turn_of_the_call_sites() -> None:
    model = convert(_SharedActivation(), 4)
    widths = _widths_seen(model)
    barrier = threading.Barrier(4)
    model.between = lambda x: (barrier.wait(timeout=60), x)[1]  # all four threads stand between the two calls
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: [model(torch.randn(4, 8)) for _ in range(20)], range(4)))
    assert widths == [{2}, {4}]


def test_a_forward_within_a_forward_and_one_that_breaks_leave_the_turn_alone() -> None:
    model = convert(_SharedActivation(), 4)
    widths = _widths_seen(model)
    depth: list[int] = []

    def between(x: torch.Tensor) -> torch.Tensor:
        depth.append(len(depth))
        if len(depth) == 1:
            model(torch.randn(2, 8))  # a whole forward pass
        if len(depth) == 2:
            with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
                model(torch.randn(2, 5))  # one that breaks before its first call
        if len(depth) == 3:
            raise RuntimeError("broken between the calls")
        return x

    model.between = between
    model(torch.randn(4, 8))
    with pytest.raises(RuntimeError, match="broken between"):
        model(torch.randn(4, 8))
    model(torch.randn(4, 8))
    assert widths == [{2}, {4}]


def _replica(module: nn.Module) -> nn.Module:
    """What DataParallel runs in a thread of its own: shallow copies of the modules."""
    replica = module._replicate_for_data_parallel()
    replica._parameters = module._parameters
    replica._modules = {name: child and _replica(child) for name, child in module._modules.items()}
    return replica


def test_replicas_of_a_converted_network_count_for_themselves() -> None:
    model = convert(_SharedActivation(), 4)
    widths = _widths_seen(model)
    barrier = threading.Barrier(2)
    model.between = lambda x: (barrier.wait(timeout=60), x)[1]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda replica: replica(torch.randn(2, 8)), [_replica(model), _replica(model)]))
    assert widths == [{2}, {4}]


def test_branches_without_competition_at_the_addition_keep_their_call_sites() -> None:
    block = create_model("resnet20", 4, placement="branches").layer1[0]
    calls: list[int] = []
    for k, layer in enumerate(block.relu):
        layer.register_forward_hook(lambda *_, k=k: calls.append(k))
    block.relu(torch.randn(1, 16, 4, 4))  # one call outside a forward pass, as after an interrupted one
    block(torch.randn(1, 16, 4, 4))
    assert calls == [0, 0, 1]


@pytest.mark.slow
def test_compiled_call_sites_are_right_in_every_thread() -> None:
    torch._dynamo.reset()  # each thread has a frame of its own, of which there are so many in a process
    model = convert(_SharedActivation(), 4, eval_mode="argmax").eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    inputs = torch.randn(32, 4, 8)
    with ThreadPoolExecutor(8) as pool:
        for x, y in zip(inputs, pool.map(compiled, inputs), strict=True):
            torch.testing.assert_close(y, model(x))


def test_export_follows_the_call_sites() -> None:
    model = convert(_SharedActivation(), 4, eval_mode="argmax").eval()
    x = torch.randn(3, 8)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


def test_timm_vit() -> None:
    model = convert(timm.create_model("deit_tiny_patch16_224"), 24)
    names = [name for name, _ in competitions(model)]
    assert names == [f"blocks.{k}.mlp.act" for k in range(12)]


def test_module_under_two_names() -> None:
    relu = nn.ReLU()
    model = convert(nn.Sequential(nn.Linear(4, 8), relu, nn.Linear(8, 6), relu), 2)
    assert isinstance(model[1], LWTA)
    assert isinstance(model[3], LWTA)
    assert model[1] is not model[3]


def test_keywords_reach_the_layers() -> None:
    model = convert(nn.Sequential(nn.Linear(4, 8), nn.GELU()), 4, temperature=0.5, eval_mode="argmax", track_kl=True)
    assert repr(model[1]) == "LWTA(competitors=4, temperature=0.5, eval_mode='argmax', track_kl=True)"


def test_training_flags_and_statistics_are_untouched() -> None:
    model = torchvision.models.resnet18()
    model.bn1.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    convert(model, 2)
    assert model.training
    assert not model.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_refuses_a_width_that_u_does_not_divide_and_changes_nothing() -> None:
    model = torchvision.models.resnet18()
    with pytest.raises(
        ValueError, match=r"competitors=24 does not divide the width of relu \(64 units\), layer1.0.relu"
    ):
        convert(model, 24)
    assert sum(isinstance(module, nn.ReLU) for module in model.modules()) == 9


def test_errors_say_what_to_do() -> None:
    plain = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
    with pytest.raises(ValueError, match=r"model has no module of replace=\('ReLU', 'GELU'\)"):
        convert(plain, 2)
    assert isinstance(convert(plain, 2, replace=nn.Tanh)[1], LWTA)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    with pytest.raises(TypeError, match="unexpected keyword argument 'inplace'"):
        convert(model, 2, inplace=True)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="eval_mode must be one of"):
        convert(model, 2, eval_mode="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"include pattern 'layer4\.\*' matches no activation; they are 1"):
        convert(model, 2, include="layer4.*")
    with pytest.raises(ValueError, match=r"does not run on an input of shape \(1, 5\) .* example_input"):
        convert(model, 2, example_input=torch.randn(1, 5))
