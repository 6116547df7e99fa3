"""Print pyproject.toml's lower bounds as pip constraints, to try the oldest releases that the library supports.

python scripts/lower_bounds.py > oldest.txt && pip install --constraint oldest.txt --editable '.[demo,test]'
"""

from __future__ import annotations

import re
from pathlib import Path

BOUND = re.compile(r'^\s*"([\w-]+)>=([\w.]+)', re.MULTILINE)
PAIRED = ("triton",)  # its release follows from that of torch


def bounds(text: str) -> list[str]:
    """Constraints ``NAME==VERSION`` of all requirements with a lower bound, but for those that others decide."""
    found = BOUND.findall(text[text.index("dependencies = [") : text.index("[project.scripts]")])
    return [f"{name}=={version}.*" if version.count(".") < 2 else f"{name}=={version}" for name, version in found]


if __name__ == "__main__":
    lines = bounds((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    print("\n".join(line for line in lines if not line.startswith(PAIRED)))
