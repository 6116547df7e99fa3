"""Files of the atlas: whole or not there, so that a run that was interrupted is simply repeated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def replace_file(path: Path, content: bytes | str) -> None:
    """Write a file under another name first: nobody sees half of it."""
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def script(name: str, value: Any) -> str:
    r"""JavaScript that sets a global to a JSON value, safe in a page as well: it has no ``<``.

    Example:
        >>> script("WORDS", ["</script>"])
        'const WORDS = ["\\u003c/script>"];\n'
    """
    return f"const {name} = {json.dumps(value, separators=(',', ':'))};\n".replace("<", "\\u003c")
