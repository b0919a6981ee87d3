"""From a completion to 1 or 0: is it exactly its prompt's answer form, and does it name the modality in a tag?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from medrft.text import extract, normalize
from medrft.types import Item, Score


@dataclass(frozen=True)
class AnswerFormat:
    """1 if the completion is exactly its form (`well_formed` of `text.extract`), else 0: R_f of ARMed.

    Does not apply to a bare answer, nor to the form `short`, which has no tags.
    """

    name: ClassVar[str] = "answer_format"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("completion",)
    about: ClassVar[str] = "form"
    """It does not judge the answer, so a gate leaves it alone."""

    def applies(self, item: Item) -> bool:
        """Completions in a form with tags."""
        return item.completion is not None and item.form in ("think", "direct")

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1 or 0 per completion, `None` where it does not apply."""
        return [
            float(extract(item.completion, item.form).well_formed)
            if item.completion is not None and item.form in ("think", "direct")
            else None
            for item in items
        ]


TAG = re.compile(r"<([A-Za-z][A-Za-z0-9 _-]{0,40})>")


SAME = {
    **dict.fromkeys(("ct", "ct scan", "computed tomography", "cat scan"), "ct"),
    **dict.fromkeys(("mri", "mr", "mri scan", "magnetic resonance imaging", "magnetic resonance"), "mri"),
    **dict.fromkeys(("x ray", "xray", "xr", "radiograph", "plain film", "radiography", "cxr", "chest x ray"), "x ray"),
    **dict.fromkeys(("ultrasound", "us", "ultrasonography", "sonography"), "ultrasound"),
}


@dataclass(frozen=True)
class ModalityTag:
    """1 if the completion holds exactly one tag such as `<CT>`, and it names the modality in the metadata, else 0.

    The form of the tag is not published; this is our reading. Applies only if the metadata hold a known modality.
    """

    name: ClassVar[str] = "modality_tag"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("completion",)
    about: ClassVar[str] = "form"

    def applies(self, item: Item) -> bool:
        """Completions about an image of known modality."""
        return item.completion is not None and bool(_known(item))

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1 or 0 per completion, `None` where it does not apply."""
        return [float(_tags(item) == {_known(item)}) if self.applies(item) else None for item in items]


def _known(item: Item) -> str:
    modality = item.metadata.get("modality")
    words = normalize(modality) if isinstance(modality, str) else ""
    return SAME.get(words, words)


def _tags(item: Item) -> set[str]:
    names = [normalize(name) for name in TAG.findall(item.completion or "")]
    return {SAME.get(name, name) for name in names if name not in ("think", "answer")}
