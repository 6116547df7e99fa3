"""Version of the library: the one source, which packaging reads too."""

__version__ = "0.2.0.dev0"
