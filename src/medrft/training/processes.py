"""How many processes train together, as torchrun and `accelerate launch` say before torch is asked."""

from __future__ import annotations

import os


def world_size() -> int:
    """Processes in this training; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1))


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return int(os.environ.get("RANK", 0)) == 0
