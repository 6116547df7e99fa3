"""Rules that the tests themselves keep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, of relative imports too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(TESTS.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*parents, node.module or ""]).strip(".")
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_tests_share_is_in_support(path: Path) -> None:
    modules = {file.stem for file in FILES if file.name.startswith(("test_", "conftest")) or "support" in file.parts}
    for name in imported(path):
        assert name.split(".")[0] not in modules, f"{name}: import it as tests.support.…"
        assert not name.startswith("tests.") or name.startswith("tests.support."), f"{name} is no helper"
        assert not name.startswith("tests.support.test_"), f"{name} is a test"
