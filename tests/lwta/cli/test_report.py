"""`lwta report`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from lwta import LWTA
from lwta.cli import main
from lwta.dissection import ClipEncoder, Concepts, dissect


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A recorded dissection of twelve images."""
    (tmp_path / "probe").mkdir()
    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 0, 255 - 20 * i)).save(tmp_path / "probe" / f"{i:02d}.png")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), LWTA(4))
    dissect(
        model,
        "2",
        tmp_path / "probe",
        clip=ClipEncoder("tiny"),
        concepts=Concepts.tiny(),
        transform=lambda image: torch.tensor(list(image.resize((2, 2)).tobytes())).float() / 255,
        store=tmp_path / "store",
        progress=False,
    )
    return tmp_path / "store"


def test_writes_the_atlas_and_its_figures(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "atlas"
    typed = ["report", str(store), "--probe", str(tmp_path / "probe"), "--out", str(out), "--title", "Mine & yours"]
    assert main([*typed, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["index"] == str(out / "index.html")
    (layer,) = printed["layers"]
    assert (layer["layer"], layer["neurons"], layer["competitors"], layer["active_share"]) == ("2", 8, 4, 0.25)
    assert (out / layer["page"]).is_file()
    assert "<h1>Mine &amp; yours</h1>" in (out / "index.html").read_text(encoding="utf-8")
    assert list((out / "images").iterdir())
    assert main([*typed, "--json", str(tmp_path / "figures.json")]) == 0
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8")) == printed


def test_a_photograph_that_was_removed_has_no_picture(store: Path, tmp_path: Path) -> None:
    typed = ["report", str(store), "--probe", str(tmp_path / "probe"), "--top", "12", "--out"]
    assert main([*typed, str(tmp_path / "whole")]) == 0
    (tmp_path / "probe" / "03.png").unlink()
    (tmp_path / "probe" / "05.png").write_bytes(b"no longer an image")
    with pytest.warns(UserWarning, match=r"lacks 2 of the images, or cannot read them: ") as warned:
        assert main([*typed, str(tmp_path / "atlas")]) == 0
    assert len(warned) == 1
    assert {name for name in ("03.png", "05.png") if repr(name) in str(warned[0].message)} == {"03.png", "05.png"}
    pictures = {folder: len(list((tmp_path / folder / "images").iterdir())) for folder in ("whole", "atlas")}
    assert pictures["atlas"] == pictures["whole"] - 2
    pages = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "atlas").rglob("*.html"))
    assert '<span class="gone">03.png</span>' in pages
    assert 'alt="03.png"' not in pages


def test_bad_usage_ends_with_2(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", str(store), "--out", str(tmp_path / "atlas"), "--top", "0"])
    assert ended.value.code == 2
