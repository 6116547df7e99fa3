"""Without a GPU, kernels are compiled for one and executed on the CPU."""

from collections.abc import Iterator

import pytest
import torch

from tests.support import executions
from tests.support.kernel_cases import KERNELS, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all targets but the newest to the whole run: each test of a kernel takes a compilation."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("path") in KERNELS[:-1]:
            item.add_marker(pytest.mark.slow)


def pytest_sessionfinish() -> None:
    executions.write()


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where kernels are launched, for the way that a test has for its parameter ``path``, or else for the newest."""
    path = request.node.callspec.params.get("path") if hasattr(request.node, "callspec") else None
    with running(path or KERNELS[-1]):
        yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
