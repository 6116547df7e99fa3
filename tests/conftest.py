"""Shared fixtures. Without a GPU the Triton kernels run on the CPU, in Triton's interpreter."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.photographs import draw_photographs
from tests.support.places import SHARED_DATA

pytest.register_assert_rewrite("tests.support.command_line", "tests.support.concept_cases")


def _mend_interpreter() -> None:
    """Let scalars be bounds of loops in Triton 3.6 under NumPy 2.4.

    It holds a scalar as an array of one element and calls int() on it, which NumPy refuses since 2.4. Later versions
    of Triton squeeze the array first, as is done here.
    """
    from triton.runtime import interpreter  # not before TRITON_INTERPRET is set: Triton's own functions heed it too

    patch = interpreter._patch_lang_tensor

    def patch_and_mend(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda scalar: int(scalar.handle.data.squeeze()))

    interpreter._patch_lang_tensor = patch_and_mend


if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # must be set before a kernel is defined
    _mend_interpreter()


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
    """Where kernels are launched: the GPU, or the CPU under the interpreter."""
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
