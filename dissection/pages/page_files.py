"""Files of pages: their templates, and writing them whole or not at all, so that a run is simply repeated."""

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
    """Return the environment of the page templates; all values in them are escaped."""
    return Environment(
        loader=PackageLoader("lwta.dissection.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def script(name: str, value: Any) -> str:
    r"""Return JavaScript that sets a global to a JSON value; it has no ``<`` and so is safe within a page too.

    Example:
        >>> script("WORDS", ["</script>"])
        'const WORDS = ["\\u003c/script>"];\n'
    """
    return f"const {name} = {json.dumps(value, separators=(',', ':'))};\n".replace("<", "\\u003c")
