"""Errors for a data folder that is missing or laid out wrongly: what was looked for, what is there, where to get it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrft.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What the published release of a data set looks like on disk, for error messages."""

    dataset: str
    wanted: str
    """The files looked for, for a person to read."""
    source: str
    """Where to get them, with the licence."""

    def require(self, root: Path | None) -> Path:
        """The folder of the release; raises `DataError` when none is named or nothing is there."""
        if root is None:
            raise DataError(
                f"{self.dataset} needs to know where it lies (data.root, or PATH on the command line): {self.wanted}. "
                f"Get it: {self.source}"
            )
        root = root.expanduser()
        if not root.exists():
            near = next(parent for parent in (*root.absolute().parents,) if parent.exists())
            raise DataError(
                f"no {self.dataset} at {root}: nothing is there ({near} holds {list_names(near)}). "
                f"Looked for {self.wanted}. Get it: {self.source}"
            )
        return root

    def wrong(self, root: Path, missing: str = "") -> DataError:
        """The error for a root that exists but does not hold the release."""
        found = list_names(root) if root.is_dir() else "a single file"
        what = f"{missing} is missing; looked for {self.wanted}" if missing else f"looked for {self.wanted}"
        return DataError(f"{root} is not laid out as {self.dataset}: {what}; found {found}. Get it: {self.source}")


def list_names(folder: Path, *, limit: int = 6) -> str:
    """The first few names in a folder, in one line."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def require_file(path: Path) -> Path:
    """The path as it is; raises `DataError` for a folder, and for a pipe or device, whose contents may never end."""
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'no plain file'}, where a file is wanted")
    return path
