"""What a trainer declares and its environment here does not have, a line each. docs/integrations.md lists them."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement


def unmet(trainer: str) -> list[str]:
    """`name wanted: left out` or `name wanted: has version`."""
    found = []
    for line in requires(trainer) or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            has = re.sub(r"\+.*", "", version(wanted.name))
        except PackageNotFoundError:
            found.append(f"{wanted.name}{wanted.specifier}: left out")
            continue
        if not wanted.specifier.contains(has, prereleases=True):
            found.append(f"{wanted.name}{wanted.specifier}: has {has}")
    return sorted(found)


if __name__ == "__main__":
    print("\n".join(unmet(sys.argv[1])))
