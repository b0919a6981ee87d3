"""What all pages share: the one Jinja environment, pictures inside the page, and an even draw of what is shown.

    render_template("audit.html.j2", summary=…)  ->  the page as text

What a model, a data set or a recipe wrote is untrusted. Jinja escapes all of it, characters that act on a terminal or
turn the direction of what follows are shown by name, and a name that a template uses but was not given is an error
instead of empty text.
"""

from __future__ import annotations

import base64
import random
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from typing import Any, TypeVar

from medrft.errors import naming_extras
from medrft.progress import say_seconds
from medrft.report import wording

with naming_extras():
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape

T = TypeVar("T")

HIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of writing, and half characters, which UTF-8 cannot hold."""


def render_template(template: str, /, **values: Any) -> str:
    """A template of `report/templates` filled with values."""
    return str(page_templates().get_template(template).render(**values))


@cache
def page_templates() -> Environment:
    """The templates of all pages, with their filters; everything is escaped."""
    found = Environment(
        loader=PackageLoader("medrft.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "label": wording.metric_label,
        "plain": wording.plain_number,
        "percent": wording.plain_percent,
        "whole_percent": wording.whole_percent,
        "points": wording.percent_points,
        "duration": say_seconds,
        "words": wording.split_words,
        "code": mark_code,
        "breakable": breakable_name,
    }
    found.tests["nothing"] = wording.tells_nothing
    return found


def breakable_name(name: str) -> Markup:
    """A name that a narrow page may break after its underscores.

    >>> str(breakable_name("text_<b>"))
    'text_<wbr>&lt;b&gt;'
    """
    return Markup("_<wbr>").join(visible_text(name).split("_"))


def visible_text(value: Any) -> Any:
    """A value to be written into a page, with what a reader could not see in a text put as signs.

    >>> visible_text("a\x1b[31mb \u202eend"), visible_text("Läsion\t是"), visible_text(3)
    ('a␛[31mb ⟨U+202E⟩end', 'Läsion\t是', 3)
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return HIDDEN.sub(_named, value)


def _named(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode has a picture of each
    return "�" if 0xD800 <= code <= 0xDFFF else f"⟨U+{code:04X}⟩"


def mark_code(text: str) -> Markup:
    """Text with what stands in backticks set as code; everything is escaped."""
    pieces = visible_text(text).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(pieces))


def png_address(png: bytes) -> str:
    """A picture as a `data:` address that contains it, because a page loads nothing from outside itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def draw_evenly(items: Sequence[T], limit: int, *, seed: int, key: Callable[[T], Hashable]) -> list[T]:
    """At most `limit` items, drawn evenly over the values of `key` and returned in their original order."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        groups[key(item)].append(number)
    rng = random.Random(seed)
    for numbers in groups.values():
        rng.shuffle(numbers)
    drawn: list[int] = []
    while len(drawn) < min(limit, len(items)):
        drawn += [numbers.pop() for numbers in groups.values() if numbers]
    return [items[number] for number in sorted(drawn[:limit])]
