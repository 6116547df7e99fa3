"""What docs/randomness.md says about draws under forks, ranks, vmap and compilation."""

import copy
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import torch._inductor.config
import torch.distributed as dist
from torch import Tensor, nn

from lwta import LWTA, functional
from tests.support.processes import together


def _draw(seed: int | None = None) -> list[int]:
    if seed is not None:
        torch.manual_seed(seed)
    return functional.winners(torch.zeros(50, 8), 4).indices.flatten().tolist()


def _send_draw(connection: Connection, seed: int | None) -> None:
    torch.set_num_threads(1)
    connection.send(_draw(seed))


def _draws_of_workers(seeds: tuple[int | None, int | None]) -> list[list[int]]:
    context = multiprocessing.get_context("fork")
    draws = []
    for seed in seeds:
        here, there = context.Pipe()
        worker = context.Process(target=_send_draw, args=(there, seed))
        worker.start()
        assert here.poll(60)
        draws.append(here.recv())
        worker.join()
    return draws


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_draw_the_same_winners_until_one_is_seeded() -> None:
    first, second = _draws_of_workers((None, None))
    assert first == second
    first, second = _draws_of_workers((None, 7))
    assert first != second


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_vmap_gives_every_sample_the_noise_of_an_explicit_seed() -> None:
    x = torch.zeros(50, 8)

    def distinct(y: Tensor) -> int:
        return len({tuple(row.tolist()) for row in y})

    def draw(row: Tensor, seed: Tensor | None = None) -> Tensor:
        return functional.winners(row, 4, seed=seed).indices.long()

    seed = torch.tensor(5)
    assert distinct(torch.vmap(lambda row: draw(row, seed))(x)) == 1
    assert distinct(torch.vmap(draw, randomness="same")(x)) == 1
    assert distinct(torch.vmap(draw, randomness="different")(x)) > 8
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(draw)(x)


@pytest.mark.slow
def test_compiled_and_eager_agree_under_one_explicit_seed_and_not_under_manual_seed() -> None:
    x = torch.randn(50, 8)

    def run(seed: Tensor | None) -> Tensor:
        return functional.lwta(x, 4, seed=seed)

    def agree(seed: Tensor | None) -> bool:
        torch._dynamo.reset()
        compiled = torch.compile(run, fullgraph=True)
        torch.manual_seed(3)
        eager = run(seed)
        torch.manual_seed(3)
        return torch.equal(compiled(seed), eager)

    assert agree(torch.tensor(5))
    assert not agree(None)
    with torch._inductor.config.patch(fallback_random=True):
        assert agree(None)


def _draw_on_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(8, 8), LWTA(4)))
    found = []
    model.module[1].register_winners_hook(lambda _, winners: found.append(winners.indices))
    for seed in (3, 3 + rank):
        torch.manual_seed(seed)
        model(torch.ones(50, 8))
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_with_one_seed_draw_the_same_winners(tmp_path: Path) -> None:
    together(_draw_on_rank, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_traced_and_exported_networks_draw_anew_at_every_run() -> None:
    model, x = nn.Sequential(nn.Linear(8, 8), LWTA(4)).eval(), torch.randn(50, 8)
    exported = torch.export.export(copy.deepcopy(model), (x,)).module()
    for network in (torch.jit.trace(model, x, check_trace=False), torch.fx.symbolic_trace(model), exported):
        assert not torch.equal(network(x), network(x))
