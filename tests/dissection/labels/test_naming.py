"""Tables, files and further questions to a dissection."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch

from lwta.dissection import Concepts, Dissection, Embeddings, Probe
from lwta.dissection.labels.choosing import choose
from lwta.dissection.labels.naming import Naming
from lwta.dissection.recording.activations import DenseActivations
from lwta.dissection.trust.abstention import Abstention
from lwta.support.exports import unescaped_cell
from tests.support.worlds import ColourNetwork, dissected, embeddings, images, recorded

HEADER = ["layer", "neuron", "concept", "score", "wins", "reason", "words", "r", "r_low", "r_high", "rank"]
HEADER += ["told_apart", "null_percentile"]
REDS = [pair for pair in images(30) if pair[0].startswith("red")]


def test_labels_are_the_best_concepts_in_order() -> None:
    for similarity in ("auto", "cos", "soft_wpmi", "correlation", "specific"):
        result = dissected(similarity=similarity)
        scores = result.similarities("head")
        assert scores.shape == (3, 4)
        for label, row in zip(result.labels("head", runner_ups=2), scores, strict=True):
            order = row.argsort(descending=True, stable=True).tolist()[:3]
            named = [(label.concept, label.score), *label.runner_ups]
            assert named == [(result.concepts.names[m], row[m].item()) for m in order]
            assert label.words == ((label.concept, 1.0),)


def test_several_words_are_named_by_the_heaviest_and_the_runners_up_are_others() -> None:
    """A neuron follows red, and green half as much."""
    features, texts = torch.eye(4)[torch.arange(80) % 4], torch.eye(4)
    values = features @ torch.tensor([[2.0, 0, 0], [1.2, 0, 0], [0, 1, 0], [0, 0, 1]]) + 0.01 * torch.randn(80, 3)
    recording = recorded(DenseActivations(values), features)
    clip = Embeddings(recording.keys, features, ["a red thing", "a green thing", "blue", "grey"], texts)
    concepts = Concepts(clip.concepts, templates=["{}"])
    chosen = choose(recording, "linear", concepts.encode(clip))
    naming = Naming(None, None, Probe.of(iter(())), clip, recording, concepts, "linear", chosen)
    label = naming.labels("layer")[0]
    assert [word for word, _ in label.words] == ["a red thing", "a green thing"]
    assert label.words[0][1] > label.words[1][1] > 0
    assert label.concept == "a red thing"
    assert label.text(2) == "a red thing + a green thing"
    scores = naming.similarities("layer")[0]
    assert label.score == float(scores[0])
    assert next(word for word, _ in label.runner_ups) == "a green thing"
    assert "a red thing" not in [word for word, _ in label.runner_ups]


def test_relabel_equals_dissecting_again() -> None:
    result = dissected()
    again = result.relabel(["a blue thing", "a grey thing"], "cos")
    direct = dissected(concepts=["a blue thing", "a grey thing"], similarity="cos")
    assert torch.equal(again.similarities("act"), direct.similarities("act"))
    assert again.similarity == "cos"
    assert result.relabel(similarity="cos").concepts is result.concepts


def test_csv_is_stable_and_complete(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dissected(ColourNetwork("sample"), seed=5).to_csv(tmp_path / f"{name}.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()

    result = dissected(probe=REDS, similarity="cos")
    result.to_csv(tmp_path / "act.csv", "act", runner_ups=1)
    with (tmp_path / "act.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == [*HEADER, "runner_up_1", "runner_up_1_score"]
    label = result.labels("act")[0]
    few = "only 10 images, too few to check a label (16 are needed)"
    expected = ["act", "0", "", f"{label.score:.5f}", "10", few, "a red thing 1.00000", *[""] * 6]
    assert rows[0] == [*expected, label.runner_ups[0][0], f"{label.runner_ups[0][1]:.5f}"]
    assert rows[1] == ["act", "1", "", "", "0", "never active", *[""] * 9]
    result.to_csv(tmp_path / "all.csv")
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 4 + 3


def test_csv_has_the_figures_of_labels(tmp_path: Path) -> None:
    result = dissected()
    result.to_csv(tmp_path / "act.csv", "act")
    with (tmp_path / "act.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[: len(HEADER)] == HEADER
    for row, label in zip(rows, result.labels("act"), strict=True):
        assert row["concept"] == (label.concept or "")
        assert row["reason"] == (label.reason or "")
        assert (row["concept"] == "") == (row["reason"] != "")
        assert row["words"] == "; ".join(f"{word} {weight:.5f}" for word, weight in label.words)
        assert [row[name] for name in ("r", "r_low", "r_high", "null_percentile")] == [
            f"{value:.5f}" for value in (label.r, label.r_low, label.r_high, label.null_percentile)
        ]
        assert (row["rank"], row["told_apart"]) == (str(label.rank), str(label.rank == 1).lower())


def test_csv_quotes_what_must_be_quoted(tmp_path: Path) -> None:
    clip = embeddings([key for key, _ in images(30)])
    clip = type(clip)(list(clip._image_rows), clip._images, ['say "red", loud', "b"], torch.eye(4)[:2])
    dissected(clip=clip, concepts=clip.concepts).to_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert next(row for row in csv.reader(file) if row[0] == "act")[2] == 'say "red", loud'


def test_table() -> None:
    result = dissected(probe=REDS, similarity="cos")
    table = result.table("act", rows=2).splitlines()
    assert table[0] == "act: 4 neurons, 10 images, 4 concepts, a word fits 0, 2 never won"
    assert table[1].split() == ["neuron", "stands", "for", "r", "95", "%", "rank", "wins", "runner-ups"]
    assert re.split(r"  +", table[2].strip())[:5] == ["0", "no word fits (closest: a red thing)", "–", "–", "–"]
    assert re.split(r"  +", table[3].strip()) == ["1", "never active", "–", "–", "–", "0"]
    assert table[4] == "… and 2 neurons more"
    assert "wins" not in result.table("head").splitlines()[1]
    every = result.relabel(similarity="cos", abstain=False).table("act").splitlines()
    assert every[0] == "act: 4 neurons, 10 images, 4 concepts, 2 never won"
    assert re.split(r"  +", every[2].strip())[:2] == ["0", "a red thing"]
    checked = dissected().table("act").splitlines()
    assert checked[0] == "act: 4 neurons, 30 images, 4 concepts, a word fits 2"
    assert re.split(r"  +", checked[2].strip())[:6] == ["0", "a red thing", "1.00", "1.00…1.00", "1", "20"]
    assert str(result) == f"{result.table('act')}\n\n{result.table('head')}"


def test_top_images() -> None:
    result = dissected()
    assert result.top_images("act", 0, 3) == [
        ("red/000.png", 1.0),
        ("red/003.png", pytest.approx(252 / 255)),
        ("red/006.png", pytest.approx(249 / 255)),
    ]
    assert len(result.top_images("act", 1, 30)) == 10  # only where it won
    # every image without blue gives "nothing" the same −1: ties go to the smaller key
    assert [key for key, _ in result.top_images("act", 3, 2)] == ["green/001.png", "green/004.png"]


def test_questions_about_what_is_not_there() -> None:
    result = dissected()
    with pytest.raises(ValueError, match="layer must be one that was dissected, 'hed' was not; did you mean 'head'"):
        result.labels("hed")
    with pytest.raises(ValueError, match="neuron must be 0…3 in layer 'act', got 4"):
        result.top_images("act", 4)


def test_concepts_are_kept_with_their_source() -> None:
    assert dissected(concepts=Concepts(["a red thing", "a blue thing"], source="mine")).concepts.source == "mine"


def named(*names: str) -> Dissection:
    """A dissection by the similarity "cos", without abstention, whose four concepts have other names."""
    result = dissected(similarity="cos", abstain=False)
    object.__setattr__(result.concepts, "names", names)
    return result


def test_a_csv_holds_no_formula_and_all_numbers(tmp_path: Path) -> None:
    names = ("=1+1", "-1\r=2", '@"x", y', "'+1")
    result = named(*names)
    result.to_csv(tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [label for layer in result.layers for label in result.labels(layer)]
    assert len(rows) == len(labels)
    negative = 0
    for row, label in zip(rows, labels, strict=True):
        assert row["concept"].startswith("'")
        assert unescaped_cell(row["concept"]) == label.concept
        assert row["score"] == f"{label.score:.5f}"
        for place, (concept, score) in enumerate(label.runner_ups, 1):
            assert unescaped_cell(row[f"runner_up_{place}"]) == concept
            assert row[f"runner_up_{place}_score"] == f"{score:.5f}"
            negative += score < 0
    assert negative


def test_label_indices_are_the_labels() -> None:
    for result in (dissected(), dissected(probe=REDS), dissected(probe=REDS, similarity="cos", abstain=False)):
        for layer in result.layers:
            names = [result.concepts.names[i] if i >= 0 else None for i in result.label_indices(layer)]
            assert names == [label.concept for label in result.labels(layer)]
            assert result.reasons(layer) == [label.reason for label in result.labels(layer)]


def test_the_rule_of_abstention_is_kept_until_another_is_asked_for() -> None:
    result = dissected(abstain=False)
    assert result.abstention is result.relabel(similarity="cos").abstention is None
    assert result.relabel(similarity="cos", abstain=True).abstention == Abstention()
    checked = dissected()
    assert checked.relabel(similarity="cos").abstention == checked.abstention == Abstention()
    assert checked.relabel(similarity="cos", abstain=False).abstention is None
