"""Where the tests find what is not part of the package."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository, or an unpacked source distribution."""
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Real inputs beside the repository, for tests that skip elsewhere."""
