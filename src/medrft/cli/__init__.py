"""The command line; `entry` is what the `medrft` script calls."""

from __future__ import annotations

import importlib.util
import sys


def entry() -> None:
    """Run the command line, or name the extra that it needs."""
    if any(importlib.util.find_spec(name) is None for name in ("typer", "rich")):
        sys.exit("medrft: the command line needs its extra; install it with: pip install 'medrft[cli]'")
    from medrft.cli.main import main

    main()
