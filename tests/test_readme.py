"""The examples of the README and the tutorial run as they stand, on stand-ins for what a reader brings along."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.places import ROOT

README = ROOT / "README.md"


STAND_INS = {
    '"ViT-B-16/openai"': '"tiny"',
    "Concepts.imagenet()": "Concepts.tiny()",
    'timm.create_model("deit_tiny_patch16_224", ': 'timm.create_model("deit_tiny_patch16_224", embed_dim=48, ',
}
"""What would be downloaded, and a quarter of the neurons, by what is in an example."""


@pytest.mark.slow
def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for name in ("ship", "truck", "deer"):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(f"photos/{name}.jpg")
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    assert all(text in "".join(blocks) for text in STAND_INS)
    for block in blocks:
        for text, stand_in in STAND_INS.items():
            block = block.replace(text, stand_in)
        exec(block, names)
    assert Path("neurons.csv").read_text().startswith("layer,neuron,concept,score,wins")
    assert Path("report/index.html").exists()
    assert Path("where.png").exists()
    assert "blocks.11.mlp.act" in capsys.readouterr().out


@pytest.mark.slow
def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    text = (README.parent / "docs" / "tutorial.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "tutorial"}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    assert names["result"].evaluations["average"].top1 > 0.9
    digits = [label.concept for label in names["dissection"].labels("output")]
    assert sum(map(str.__eq__, digits, names["names"])) >= 9
    assert "Why " in capsys.readouterr().out
    assert Path("atlas/image-01.html").exists()
    assert Path("where.png").exists()


def test_figures_are_those_recorded() -> None:
    report = pytest.importorskip("benchmarks.report", reason="needs a checkout")
    for name in report.documents():
        text = (README.parent / name).read_text(encoding="utf-8")
        assert report.with_figures(text, name) == text
    for name, plot in report.plots().items():
        assert (README.parent / "docs" / name).read_text(encoding="utf-8") == plot
