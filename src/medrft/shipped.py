"""The recipes that medrft brings along: their names, what each says of itself, and copies to edit.

    quickstart            a recipe                   medrft run quickstart
    studies/zhu_bias      a study                    medrft study studies/zhu_bias
    accelerate/fsdp2      settings for accelerate    accelerate launch --config_file recipes/accelerate/fsdp2.yaml …
    templates/llava_1_5   a chat template            model.chat_template: recipes/templates/llava_1_5.jinja

They lie in `recipes/` of the repository; the wheel has that folder as `medrft/shipped_recipes`.
"""

from __future__ import annotations

import difflib
import re
from itertools import takewhile
from pathlib import Path

from medrft.errors import RecipeError, unknown_name
from medrft.files import write_atomic

HERE = Path(__file__).resolve()
PACKED = HERE.parent / "shipped_recipes"
FOLDER = PACKED if PACKED.is_dir() else HERE.parents[2] / "recipes"
"""Where they lie: in the package if it was installed from a wheel, else in the repository."""
NAMED = re.compile(r"[\w./-]+\.(?:yaml|jinja|py)\b")


def shipped_files() -> dict[str, Path]:
    """Each shipped file by its name, which is its path in `recipes/` without the suffix; recipes come first."""
    files = sorted(
        (path for path in FOLDER.rglob("*") if path.suffix in (".yaml", ".jinja")),
        key=lambda path: (len(path.relative_to(FOLDER).parts), path),
    )
    return {path.relative_to(FOLDER).with_suffix("").as_posix(): path for path in files}


def find_shipped(path: Path) -> Path:
    """`path`, or the shipped file that it names if there is no such file."""
    return path if path.is_file() else shipped_files().get(path.as_posix(), path)


def hint_shipped(path: Path) -> str:
    """The end of a message about a file that is not there: the shipped one that may be meant, and how to get it."""
    names = {name.split("/")[-1]: name for name in reversed(shipped_files())}
    near = difflib.get_close_matches(path.stem, names, n=1, cutoff=0.8)
    if not near:
        return "; medrft init --list shows those that medrft brings along"
    name = names[near[0]]
    return f"; medrft brings along {name}: pass that name, or write a copy with: medrft init {name}"


def first_words(path: Path) -> str:
    """What a shipped file says of itself first: its opening comment up to the end of the first sentence or a colon."""
    text = path.read_text(encoding="utf-8")
    opening = text.split("-#}")[0].removeprefix("{#-") if path.suffix == ".jinja" else _opening(text)
    first = re.split(r"(?<=\?)\s|:\s|\.(?:\s*\n|\s+(?=[A-Z])|\s*$)", opening, maxsplit=1)[0]
    return " ".join(first.split())


def copy_shipped(name: str, folder: Path) -> list[Path]:
    """Copy a shipped file and those that it uses into `folder`, each to the place it has in `recipes/`; the copies.

    So the paths in them hold there too. Raises `UnknownNameError`, and `RecipeError` before anything is written if a
    file is there that says something else.
    """
    shipped = shipped_files()
    if name not in shipped:
        raise unknown_name("shipped recipe", name, shipped)
    copies = {folder / path.relative_to(FOLDER): path for path in _with_used(shipped[name])}
    for copy, path in copies.items():
        if copy.exists() and (not copy.is_file() or copy.read_bytes() != path.read_bytes()):
            raise RecipeError(f"{copy} is there and is not what would be written; name another folder, or move it away")
    for copy, path in copies.items():
        write_atomic(copy, path.read_bytes())
    return list(copies)


def _with_used(path: Path) -> list[Path]:
    """A file, and those that its settings or the launcher's line in its opening comment name, and so on."""
    found = [path]
    for here in found:
        text = here.read_text(encoding="utf-8") if here.suffix == ".yaml" else ""
        settings = re.sub(r"(?:^|\s)#.*", "", text)
        named = [here.parent / name for name in NAMED.findall(settings)]
        named += [FOLDER / name for name in re.findall(r"--config_file recipes/(\S+)", _opening(text))]
        found += [one.resolve() for one in named if one.is_file() and one.resolve() not in found]
    return found


def _opening(text: str) -> str:
    """The comment that a YAML file begins with."""
    return "\n".join(line[1:] for line in takewhile(lambda line: line.startswith("#"), text.splitlines()))
