"""Compares a wheel with the files that git knows, and looks for links in its readme that an index cannot follow."""

import re
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

wheel, files = sys.argv[1:]
tracked = Path(files).read_text(encoding="utf-8").split()
wanted = {re.sub("^recipes/", "medrft/shipped_recipes/", name).removeprefix("src/") for name in tracked}
with zipfile.ZipFile(wheel) as archive:
    held = {name for name in archive.namelist() if ".dist-info/" not in name}
    told = message_from_bytes(archive.read(next(n for n in archive.namelist() if n.endswith("/METADATA"))))
if held != wanted:
    sys.exit(f"the wheel lacks {sorted(wanted - held)} and has {sorted(held - wanted)} besides")
text = told.get_payload(decode=True).decode("utf-8")
if links := [link for link in re.findall(r"\]\(([^)]*)\)", text) if not link.startswith("https://")]:
    sys.exit(f"the readme of the wheel links to files of the repository: {links}")
