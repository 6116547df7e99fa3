"""Entry point of ``python -m lwta``: the command line."""

import sys

from lwta.cli import main

if __name__ == "__main__":
    sys.exit(main())
