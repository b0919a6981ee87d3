"""Headless Chromium for tests: the DOM of a page after it was loaded, what its console said, and how wide it is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install chromium to run browser tests")


def browse(address: str, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """The DOM of the page at an address, and the lines of its console."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--enable-logging=stderr", f"--user-data-dir={profile}", *flags, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def width_shown_at(page: Path, width: int, folder: Path) -> int:
    """How many pixels wide a page is when it is shown `width` wide: more means that it scrolls sideways."""
    frame = folder / f"frame{width}.html"
    frame.write_text(
        f"""<iframe src="{page.as_uri()}" style="width:{width}px;height:800px;border:0"
        onload="document.title = 'width ' + this.contentDocument.documentElement.scrollWidth"></iframe>""",
        encoding="utf-8",
    )
    flags = ("--allow-file-access-from-files", "--window-size=1400,900")
    found = re.search(r"width (\d+)", browse(frame.as_uri(), folder / "profile", *flags)[0])
    assert found is not None
    return int(found[1])
