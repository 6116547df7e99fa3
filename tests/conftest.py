"""Shared fixtures."""

from pathlib import Path

import pytest
import torch

from tests.support.photographs import draw_photographs
from tests.support.places import SHARED_DATA

pytest.register_assert_rewrite("tests.support.command_line", "tests.support.concept_cases")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a GPU")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where kernels are launched: the GPU, or the CPU, which executes what is compiled for a GPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs beside the repository; tests that need it skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real inputs not found: no folder ../shared/data beside the repository")
    return SHARED_DATA


@pytest.fixture(params=["drawn", "real"])
def photographs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip archive of photographs by class: drawn ones everywhere, and real ones where there are any."""
    if request.param == "real":
        return request.getfixturevalue("shared_data") / "caltech101-val.zip"
    return draw_photographs(tmp_path_factory.mktemp("photographs") / "photographs.zip")
