"""The pass over the probe: precision, draws, processes, compilation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lwta import LWTA, LWTAConv2d
from lwta.dissection import ClipEncoder, Probe, dissect
from lwta.dissection.recording.activations import WinnerActivations
from lwta.dissection.recording.hooks import tapped
from lwta.dissection.recording.one_pass import Encoded, Pass, encode
from lwta.dissection.recording.precision import computing, own_type
from lwta.support.seeds import derive, seeded
from tests.support.worlds import ColourNetwork, embeddings, images, to_tensor

COUNT = 13


class NoClip:
    """Looks at no image."""

    preprocess = None
    fingerprint = ""

    def check_keys(self, keys: Any) -> None: ...

    def to(self, device: torch.device) -> None: ...

    def encode_images(self, keys: Any, images: Tensor | None) -> Tensor:
        return torch.ones(len(keys), 1)

    def encode_texts(self, texts: Any) -> Tensor:
        return torch.ones(len(texts), 1)


def network() -> nn.Sequential:
    """Winners at every position, behind them an ordinary layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        LWTAConv2d(3, 12, 3, competitors=3), nn.Conv2d(12, 4, 1), nn.Flatten(), nn.Linear(64, 6), LWTA(2)
    )


LAYERS = ("0", "1", "4")


def encoded(model: nn.Module | None = None, layers: Any = LAYERS, **changes: Any) -> list[Encoded]:
    only = changes.pop("only", None)
    work = Pass(model or network(), layers, Probe.of(images(COUNT)), NoClip(), to_tensor, batch_size=5, seed=3)
    return list(encode(replace(work, **changes), only))


def dense(batches: list[Encoded], layer: str) -> Tensor:
    return torch.cat([batch.activations[layer].dense() for batch in batches])


def outputs(model: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """Of each of the layers."""
    found = {}
    for name, layer in model.named_children():
        x = layer(x)
        found[name] = x.double()
    return {name: found[name] for name in LAYERS}


def reference(draws: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Mean pooled output in float64, mean share and whether it won, (N, D) each, by dense arithmetic."""
    model = network().eval()
    rows: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {name: [] for name in LAYERS}
    pixels = torch.stack([to_tensor(image) for _, image in images(COUNT)])
    for number, inputs in enumerate(pixels.split(5)):
        values: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
        shares: dict[str, list[Tensor]] = {name: [] for name in LAYERS}
        for draw in range(draws):
            with seeded(derive(3, number, draw)), torch.no_grad():
                found = outputs(model, inputs)
            for name, output in found.items():
                positions = output.reshape(*output.shape[:2], -1)
                values[name].append(positions.mean(2))
                shares[name].append((positions != 0).double().mean(2))
        for name in LAYERS:
            value, share = torch.stack(values[name]).mean(0), torch.stack(shares[name]).mean(0)
            rows[name].append((value, share, share > 0))
    return {name: tuple(map(torch.cat, zip(*rows[name], strict=True))) for name in LAYERS}  # type: ignore[misc]


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_draws_are_averaged(draws: int) -> None:
    batches, expected = encoded(draws=draws), reference(draws)
    for layer in LAYERS:
        values, shares, won = expected[layer]
        torch.testing.assert_close(dense(batches, layer).double(), values, rtol=1e-5, atol=1e-6)
        activations = [batch.activations[layer] for batch in batches]
        if layer == "1":
            assert activations[0].wins() is None
            continue
        assert all(isinstance(part, WinnerActivations) for part in activations)
        absent = torch.cat([part.dense(absent=torch.nan) for part in activations])
        assert torch.equal(~absent.isnan(), won)
        total = torch.stack([part.positions_won() for part in activations]).sum(0)  # type: ignore[arg-type]
        torch.testing.assert_close(total, shares.sum(0), rtol=1e-6, atol=0)


def test_one_draw_is_what_one_forward_gives() -> None:
    model = network().eval()
    pixels = torch.stack([to_tensor(image) for _, image in images(COUNT)])
    (first, *_) = encoded(model, draws=1)
    with tapped(model, LAYERS, "auto") as taps, torch.inference_mode(), seeded(derive(3, 0)):
        model(pixels[:5])
    for tap in taps:
        assert torch.equal(tap.take(first.keys).dense(), first.activations[tap.name].dense())


@pytest.mark.parametrize("changes", [{"workers": 2}, {"only": {1, 2}}, {"only": {2}, "workers": 1, "draws": 3}])
def test_nothing_depends_on_processes_or_on_the_other_batches(changes: dict[str, Any]) -> None:
    every = {batch.number: batch for batch in encoded(draws=changes.get("draws", 1))}
    for batch in encoded(**changes):
        for layer in LAYERS:
            assert torch.equal(batch.activations[layer].dense(), every[batch.number].activations[layer].dense())


def test_other_seeds_are_other_draws() -> None:
    scores = [dense(encoded(seed=seed, draws=2), "0") for seed in (3, 3, 4)]
    assert torch.equal(scores[0], scores[1])
    assert not torch.equal(scores[0], scores[2])


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        encoded(draws=0)
    with pytest.raises(
        ValueError, match=r"precision must be one of 'auto', 'float32', 'bfloat16', 'float16', got 'half'"
    ):
        encoded(precision="half")


def test_precision() -> None:
    """On a CPU, "auto" is the network as it is, and bfloat16 is close to it and not the same."""
    exact, auto = (dense(encoded(precision=precision), "1") for precision in ("float32", "auto"))
    assert torch.equal(exact, auto)
    model = ColourNetwork()
    exact, low = (dense(encoded(model, ["mix"], precision=precision), "mix") for precision in ("float32", "bfloat16"))
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    assert torch.equal(low, low.bfloat16().float())
    torch.testing.assert_close(low, exact, rtol=2**-6, atol=2**-6)


def test_a_network_in_half_precision_runs_in_its_own() -> None:
    model = ColourNetwork().bfloat16()
    assert own_type(model) == torch.bfloat16
    for precision in ("auto", "float32"):
        found = dense(encoded(model, ["mix", "act"], precision=precision), "mix")
        torch.testing.assert_close(found, dense(encoded(ColourNetwork(), ["mix"]), "mix"), rtol=2**-6, atol=2**-6)


def test_clip_is_within_the_precision() -> None:
    clip = ClipEncoder("tiny")
    features = [
        torch.cat([batch.features for batch in encoded(ColourNetwork(), "act", clip=clip, precision=precision)])
        for precision in ("float32", "bfloat16")
    ]
    assert features[1].dtype == torch.float32
    assert not torch.equal(*features)
    assert ((features[0] * features[1]).sum(1) > 0.995).all()
    torch.testing.assert_close(features[1].norm(dim=1), torch.ones(COUNT), rtol=1e-5, atol=0)


def test_dissect_passes_it_on() -> None:
    probe = images(12)
    clip = embeddings([key for key, _ in probe])
    arguments: dict[str, Any] = {"clip": clip, "concepts": clip.concepts, "transform": to_tensor, "progress": False}
    one, four, low = (
        dissect(ColourNetwork("sample"), "act", probe, **arguments, **changes)
        for changes in ({}, {"draws": 8}, {"precision": "bfloat16"})
    )
    assert sum(four.recording.wins("act")) > sum(one.recording.wins("act")) == 24  # type: ignore[arg-type]
    assert four.recording.win_shares("act").sum().item() == pytest.approx(2)  # type: ignore[union-attr]
    assert low.top_images("act", 0) != one.top_images("act", 0)
    with pytest.raises(ValueError, match="draws must be at least 1"):
        dissect(ColourNetwork(), "act", probe, **arguments, draws=0)


@pytest.mark.slow
def test_compiled_networks_are_heard_and_draw_the_same() -> None:
    found = [encoded(compile=compile, draws=2) for compile in (False, True)]
    for layer in LAYERS:
        torch.testing.assert_close(*(dense(batches, layer) for batches in found), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("compile", [False, True])
def test_on_a_gpu_the_result_repeats_and_is_close_to_the_cpu(compile: bool) -> None:
    model = network()
    for layer in (module for module in model if isinstance(module, (LWTA, LWTAConv2d))):
        layer.eval_mode = "argmax"
    first, second = (encoded(model, device="cuda", compile=compile) for _ in range(2))
    exact = encoded(model, device="cuda", precision="float32")
    for layer in LAYERS:
        assert torch.equal(dense(first, layer), dense(second, layer))
        torch.testing.assert_close(dense(exact, layer), dense(encoded(model), layer), rtol=0.1, atol=0.1)
    assert next(model.parameters()).device.type == "cpu"
    assert next(model.parameters()).is_contiguous()


@pytest.mark.gpu
def test_auto_is_bfloat16_on_a_gpu() -> None:
    with computing("auto", torch.device("cuda")):
        assert torch.is_autocast_enabled("cuda")
        assert torch.get_autocast_dtype("cuda") == torch.bfloat16
    with computing("auto", torch.device("cuda"), torch.float16):
        assert not torch.is_autocast_enabled("cuda")
