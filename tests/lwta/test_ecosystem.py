"""Life with the rest of PyTorch: distributed training, mixed precision, export, CUDA graphs."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lwta import LWTA, LWTALinear, LWTAMlp, functional, set_eval_mode
from tests.support.processes import together


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(LWTALinear(8, 24, 12), LWTAMlp(24, 48, competitors=8), nn.Linear(24, 3))


def _train_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo")
    model = DistributedDataParallel(_network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(rank)
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.module.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path) -> None:
    together(_train_rank, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    initial = _network().state_dict()
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert not torch.equal(value, initial[name])


def test_mixed_precision_training() -> None:
    model = _network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(torch.randn(70, 8))
        loss = y.float().square().mean()
    loss.backward()
    assert y.dtype == torch.bfloat16
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters()
    )


def test_fused_operations_follow_autocast() -> None:
    x, weight = torch.randn(5, 8), torch.randn(24, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        winners = functional.linear_winners(x, weight, None, 4)
        assert winners.values.dtype == torch.bfloat16
        assert functional.winners_linear(winners, weight.t().contiguous()).dtype == torch.bfloat16


def test_float64_stays_float64_under_autocast_as_in_a_linear_layer() -> None:
    x, weight1, bias1, weight2 = (
        torch.randn(shape, dtype=torch.float64) for shape in ((5, 8), (24, 8), (24,), (3, 24))
    )
    seed = torch.tensor(5)
    winners = functional.linear_winners(x, weight1, bias1, 4, seed=seed)
    expected = functional.mlp(x, weight1, bias1, weight2, None, 4, seed=seed)[0]
    leaves = [t.requires_grad_() for t in (x, weight1, bias1, weight2)]
    gradients = torch.autograd.grad(functional.mlp(*leaves, None, 4, seed=seed)[0].sum(), leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nn.functional.linear(x, weight1, bias1).dtype == torch.float64
        torch.testing.assert_close(functional.linear_winners(x, weight1, bias1, 4, seed=seed), winners)
        torch.testing.assert_close(functional.winners_linear(winners, weight2), expected)
        y = functional.mlp(*leaves, None, 4, seed=seed)[0]
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(torch.autograd.grad(y.sum(), leaves), gradients)
        assert LWTAMlp(8, 24, competitors=12).double()(x).dtype == torch.float64
        with pytest.raises(TypeError, match=r"weight must have the type of x, torch\.float64, got torch\.bfloat16"):
            functional.linear_winners(x, weight1.float(), None, 4)


@pytest.mark.slow
def test_export_of_a_network_in_argmax_mode() -> None:
    model = _network().eval()
    set_eval_mode(model, "argmax")
    x = torch.randn(4, 8)
    exported = torch.export.export(model, (x,)).module()
    assert torch.allclose(exported(x), model(x), atol=1e-6)


@pytest.mark.slow
def test_compact_mlp_compiles_without_graph_breaks() -> None:
    mlp = LWTAMlp(8, 24, competitors=12)
    torch.compile(mlp, fullgraph=True)(torch.randn(5, 8)).sum().backward()
    assert mlp.fc1.weight.grad.abs().sum() > 0


@pytest.mark.gpu
def test_graph_replay_draws_fresh_winners() -> None:
    layer, x = LWTA(8).cuda(), torch.randn(64, 64, device="cuda")
    layer(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = layer(x)
    graph.replay()
    first = y.clone()
    graph.replay()
    assert not torch.equal(first, y)
    assert ((y != 0).sum(1) == 8).all()
