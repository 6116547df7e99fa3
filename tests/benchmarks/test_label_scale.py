"""Time and memory of labels at small sizes: every row has its keys, and says what was measured."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import label_scale
from lwta.dissection.moments.folds import folds_of
from lwta.dissection.moments.measuring import moments_of
from lwta.dissection.recording.activations import DenseActivations

SIZES = ("images", "neurons", "competitors", "concepts", "features", "shard")


@pytest.mark.slow
def test_every_step_is_measured_in_a_process_of_its_own() -> None:
    rows = list(label_scale.run(quick=True))
    assert [row["step"] for row in rows] == ["moments", "correlation", "specific", "linear"]
    for row in rows:
        assert list(row) == ["kind", "step", *SIZES, "seconds", "peak_bytes", "threads"]
        assert row["kind"] == "scale"
        assert [row[name] for name in SIZES] == [20_000, 64, 8, 500, 64, 2_000]
        assert row["seconds"] >= 0
        assert 1e8 < row["peak_bytes"] < 3e9
        assert row["threads"] >= 1


@pytest.mark.slow
def test_a_measurement_that_fails_is_told() -> None:
    with pytest.raises(
        RuntimeError, match=r"(?s)the measurement benchmarks\.label_scale nothing failed:\n.*IndexError"
    ):
        label_scale.measured_apart("benchmarks.label_scale", "nothing")


@pytest.mark.slow
def test_what_moments_add_to_recording_is_measured() -> None:
    from benchmarks import label_cost  # which takes long to import

    rows = list(label_cost.run(quick=True))
    assert [(row["step"], row["competitors"], row["shard"]) for row in rows] == [
        ("dense, in memory", None, 4),
        ("dense, in a store", None, 100),
        ("winners, in a store", 8, 100),
    ]
    recorded: dict[str, Any] = {
        "network": "resnet18", "stage": "layer1", "clip": "tiny", "pixels": 32, "batch": 4, "images": 8, "rounds": 3
    }  # fmt: skip
    for row in rows:
        sizes = {"neurons": 64, "competitors": row["competitors"], "features": 64, "shard": row["shard"], "summed": 200}
        figures = ("recording_seconds", "moments_seconds", "ratio", "threads")
        assert list(row) == ["kind", "step", *recorded, *sizes, *figures]
        assert row["kind"] == "cost"
        assert recorded | sizes == {name: row[name] for name in (*recorded, *sizes)}
        assert row["recording_seconds"] == rows[0]["recording_seconds"] > 0
        assert row["ratio"] == pytest.approx(row["moments_seconds"] / row["recording_seconds"], rel=1e-3)
        assert row["moments_seconds"] > 0


def test_few_shards_come_again_until_there_are_enough_images() -> None:
    features, values = torch.nn.functional.normalize(torch.randn(2, 10, 4), dim=-1), torch.randn(2, 10, 3)
    scale = label_scale.Scale(images=35, neurons=3, features=4, shard=10)
    drawn = [(features[k], DenseActivations(values[k])) for k in range(2)]
    recording = label_scale.Simulated(scale, drawn)
    found = moments_of(recording, "act")
    rows = torch.cat([values[0], values[1], values[0], values[1][:5]]).double()
    folds = folds_of(f"{number:07d}" for number in range(35))
    for fold in range(8):
        assert int(found.counts[fold]) == int((folds == fold).sum())
        torch.testing.assert_close(found.sums[fold], rows[folds == fold].sum(0), rtol=0, atol=1e-4)
