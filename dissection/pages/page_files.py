"""Files of the atlas: templates, and pages that are whole or not there, so that a run is simply repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lwta.support.files import write_atomically

STATIC = Path(__file__).parent / "static"


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file, whole or not at all."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    write_atomically(path, lambda temporary: temporary.write_bytes(data), durable=False)  # there are thousands of them


def templates() -> Environment:
    """Of the pages; whatever they are given is escaped."""
    return Environment(
        loader=PackageLoader("lwta.dissection.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def script(name: str, value: Any) -> str:
    r"""JavaScript that sets a global to a JSON value, safe in a page as well: it has no ``<``.

    Example:
        >>> script("WORDS", ["</script>"])
        'const WORDS = ["\\u003c/script>"];\n'
    """
    return f"const {name} = {json.dumps(value, separators=(',', ':'))};\n".replace("<", "\\u003c")
