"""Docstrings can be read alone, and what is public has an example."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lwta

PACKAGES = ("lwta", "lwta.training", "lwta.images", "lwta.dissection")
FRAGMENT = re.compile(r"(?:Of|As|By|Those|That|What|Which|Who|Whose|Where|How|Its|Their|Such)\b")
"""Beginnings of first lines that only the name of the thing, or the line above, would make clear."""


def public_classes() -> list[type]:
    packages = [importlib.import_module(name) for name in PACKAGES]
    exported = [getattr(package, name) for package in packages for name in package.__all__]
    return [value for value in exported if inspect.isclass(value) and not issubclass(value, Exception)]


@pytest.mark.parametrize("kind", sorted(set(public_classes()), key=lambda kind: kind.__qualname__))
def test_public_classes_have_an_example(kind: type) -> None:
    assert ">>> " in (kind.__doc__ or "")


def first_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the first line of every docstring, those of fields among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip().partition("\n")[0]


def test_first_lines_of_docstrings_are_understood_alone() -> None:
    root = Path(lwta.__file__).parent
    files = [path for folder in (root, root / "kernels", root / "dissection") for path in folder.rglob("*.py")]
    fragments = [
        f"{path.relative_to(root)}:{line}: {text}"
        for path in sorted(set(files))
        for line, text in first_lines(path)
        if FRAGMENT.match(text)
    ]
    assert not fragments
