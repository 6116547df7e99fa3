"""The atlas as a reader meets it, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import browser as chromium
import pytest
import torch
from fakes import COLOURS, ColourNetwork, embeddings, images
from test_dissect import dissected
from torch import nn

from lwta import LWTA
from lwta.dissection import Dissection, Embeddings, Explained

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="needs Chromium")

EVIL = '"><img src=x onerror="console.error(1)"><script>console.error(2)</script>'


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    page = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()


@pytest.fixture(scope="module")
def result() -> Dissection:
    """Keys, labels and concepts full of markup."""
    probe = [(f"{key}{EVIL}", image) for key, image in images(30)]
    keys = [key for key, _ in probe]
    names = [*(f"a {colour} thing" for colour in COLOURS), EVIL]
    rows = torch.tensor([COLOURS.index(key.split("/")[0]) for key in keys])
    marked = Embeddings(keys, torch.eye(4)[rows], names, torch.eye(4))
    return dissected(ColourNetwork(), probe=probe, clip=marked, concepts=names)


@pytest.fixture(scope="module")
def atlas(result: Dissection, tmp_path_factory: pytest.TempPathFactory) -> str:
    key, image = images(30)[0]
    names = ["red", f"{EVIL}", "blue"]
    why = result.explain(image, class_names=names, draws=3, versus=2)
    folder = tmp_path_factory.mktemp("atlas")
    result.to_report(folder, title=EVIL, explained=[Explained(f"{EVIL}{key}", image, why)])
    return folder.as_uri()


@pytest.fixture(autouse=True)
def nothing_goes_wrong(browser: chromium.Browser) -> Iterator[None]:
    browser.problems.clear()
    yield
    assert browser.problems == []


VISIBLE = "[...document.querySelectorAll('.neuron:not([hidden])')]"


def choose(browser: chromium.Browser, menu: str, value: str) -> None:
    """An entry of a menu, as a reader does it."""
    browser.run(
        f"{{ const menu = document.getElementById('{menu}'); menu.value = '{value}';"
        " menu.dispatchEvent(new Event('change')) }"
    )


def test_search_narrows_the_cards(browser: chromium.Browser, atlas: str) -> None:
    browser.open(f"{atlas}/layer-1.html")
    every = browser.run(f"{VISIBLE}.length")
    browser.press("/", 191, "/")
    assert browser.run("document.activeElement.id") == "search"
    browser.write("red")
    browser.until("document.getElementById('count').textContent.includes(' of ')")
    shown = browser.run(f"{VISIBLE}.map(card => card.querySelector('h3').textContent)")
    assert 0 < len(shown) < every
    assert all("red" in text for text in shown)
    browser.write("no such thing")
    browser.until(f"{VISIBLE}.length === 0")
    assert browser.run("document.querySelectorAll('.block:not([hidden])').length") == 0
    browser.press("Escape", 27)
    browser.until(f"{VISIBLE}.length === {every}")


def test_sorting_orders_the_cards_and_back(browser: chromium.Browser, atlas: str) -> None:
    browser.open(f"{atlas}/layer-1.html")
    numbers = f"{VISIBLE}.map(card => card.id)"
    before = browser.run(numbers)

    def sort(by: str) -> None:
        choose(browser, "sort", by)

    sort("score")
    scores = [float(score) if score else float("-inf") for score in browser.run(f"{VISIBLE}.map(c => c.dataset.score)")]
    assert scores == sorted(scores, reverse=True)
    sort("wins")
    wins = [int(count) for count in browser.run(f"{VISIBLE}.map(card => card.dataset.wins)")]
    assert wins == sorted(wins, reverse=True)
    sort("")
    assert browser.run(numbers) == before


def test_filter_shows_dead_neurons_alone(browser: chromium.Browser, tmp_path: Path) -> None:
    dissected(probe=images(1)).to_report(tmp_path)
    browser.open(f"{tmp_path.as_uri()}/layer-1.html")
    choose(browser, "filter", "dead")
    assert browser.run(f"{VISIBLE}.every(card => card.classList.contains('dead'))")
    assert browser.run(f"{VISIBLE}.length") == 2


def test_a_card_opens_by_keyboard_and_by_its_address(browser: chromium.Browser, atlas: str) -> None:
    browser.open(f"{atlas}/layer-1.html")
    browser.run("document.querySelector('#neuron-0 summary').focus()")
    browser.press("Enter", 13, "\r")
    browser.until("document.querySelector('#neuron-0 details').open")
    browser.open(f"{atlas}/layer-1.html?again#neuron-3")
    browser.until("document.querySelector('#neuron-3 details').open")
    assert not browser.run("document.querySelector('#neuron-0 details').open")
    browser.run("document.querySelector('#neuron-3 details a').click()")  # a competitor
    browser.until("document.querySelector(location.hash + ' details').open && location.hash !== '#neuron-3'")


def test_the_overview_finds_neurons_of_every_layer(browser: chromium.Browser, atlas: str) -> None:
    browser.open(f"{atlas}/index.html")
    browser.run("document.getElementById('search').focus()")
    browser.write("red")
    browser.until("document.querySelectorAll('#found li').length > 1")
    links = browser.run("[...document.querySelectorAll('#found a')].map(link => link.getAttribute('href'))")
    assert {link.split("#")[0] for link in links} == {"layer-1.html", "layer-2.html"}
    browser.run("document.querySelector('#found a').click()")
    browser.until("location.hash !== '' && document.querySelector(location.hash + ' details')?.open")


def test_an_image_page_leads_to_its_neurons(browser: chromium.Browser, atlas: str) -> None:
    browser.open(f"{atlas}/index.html")
    browser.run("document.querySelector('.explained a').click()")
    browser.until("location.pathname.endsWith('image-1.html') && document.readyState === 'complete'")
    assert browser.run("document.querySelectorAll('.evidence li').length") > 1
    assert EVIL in browser.run("document.body.textContent")
    assert browser.run("[...document.images].every(image => image.alt !== null)")
    browser.run("document.querySelector('.evidence a').click()")
    browser.until("location.pathname.includes('layer-') && document.querySelector(location.hash) !== null")


@pytest.mark.parametrize("page", ["index.html", "layer-1.html", "layer-2.html", "image-1.html"])
def test_pages_fit_a_phone_in_both_schemes_and_have_landmarks(browser: chromium.Browser, atlas: str, page: str) -> None:
    browser.resize(390, 844)
    grounds = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.open(f"{atlas}/{page}")
        assert browser.run("document.documentElement.scrollWidth") <= 390
        grounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]
    assert browser.run("document.querySelectorAll('h1').length") == 1
    assert browser.run("document.querySelectorAll('main').length") == 1
    assert browser.run("document.querySelectorAll('nav[aria-label]').length") == 1
    unnamed = "input, select"
    assert browser.run(f"[...document.querySelectorAll('{unnamed}')].every(one => one.labels.length === 1)")
    browser.resize(1280, 900)
    browser.prefer("light")


class Wide(nn.Module):
    """3,072 neurons, of which every 24th wins."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.linear, self.act = nn.Flatten(), nn.Linear(108, 3072), LWTA(24, eval_mode="argmax")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.linear(self.flat(x)))


def test_a_layer_of_3072_neurons_opens_quickly(browser: chromium.Browser, tmp_path: Path) -> None:
    probe = images(120)
    result = dissected(Wide(), ["act"], probe=probe, clip=embeddings([key for key, _ in probe]))
    result.to_report(tmp_path, progress=False)
    seconds = browser.open(f"{tmp_path.as_uri()}/layer-1.html")
    assert browser.run("document.querySelectorAll('.neuron').length") == 3072
    assert seconds < 6  # 2 on an idle machine; three times that on one that does other things as well
    loaded = browser.run("[...document.images].filter(image => image.complete && image.naturalWidth).length")
    assert loaded < browser.run("document.images.length")  # the others wait until they come into view
    browser.run("document.getElementById('search').focus()")
    browser.write("red")
    browser.until("document.getElementById('count').textContent.includes(' of ')")


def test_without_scripts_all_is_there(atlas: str, result: Dissection) -> None:
    text = Path(atlas.removeprefix("file://")).joinpath("layer-1.html").read_text(encoding="utf-8")
    assert text.count('<li class="neuron') == len(result.labels("act"))
