"""Fact checks of the thought, for phantom data: what stands in for an expert who reads the reasoning.

    scorer: fact_check.py:FactCheck     nothing that is said is wrong
    scorer: fact_check.py:AskedCheck    and all that was asked for is said

Zhu et al. (arXiv 2505.13973) let an expert model say whether the reasoning is clinically sound, 1 or 0. On the phantom
the facts are known, so each sentence of the thought is held against them: 1 where the thought names at least one fact
and none that is wrong, else 0. Words outside the phantom's lexicon (what a finding looks like), numbers, and what is
said to lie opposite (it follows from the sides) are passed over. An expert who asks for no more is pleased by a thought
that says little; `AskedCheck` wants every finding of the picture named, and composed questions ask about all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from medrft.data.phantom.grammar import LONGEST, PHRASES, words_of
from medrft.types import Item, Score

IMAGE = {"m": "modality", "p": "plane", "o": "organ"}
FINDING = {"s": "side", "l": "place", "z": "size"}
ORGAN_SIDES = {"liver": "right", "spleen": "left"}
ORGANS = ("liver", "spleen", "kidney")
"""Places that a thought also names as landmarks; they are claims only after `in` or `on`."""
SIGN = "without lung markings"
"""A sign of a pneumothorax that sounds like a denial."""
RELATIVE = ", and opposite there "


@dataclass(frozen=True)
class FactCheck:
    """1 where all that the thought claims is true of the picture and it claims something, else 0."""

    name: ClassVar[str] = "fact_check"
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    needs: ClassVar[tuple[str, ...]] = ("completion",)
    about: ClassVar[str] = "reasoning"

    def applies(self, item: Item) -> bool:
        """Completions about a picture whose facts are known."""
        return item.completion is not None and "facts" in item.metadata

    def __call__(self, items: Sequence[Item]) -> list[Score]:
        """1 or 0 per completion; 0 without a thought."""
        return [
            self._judge(item.thinking or "", item.metadata["facts"]) if self.applies(item) else None for item in items
        ]

    def _judge(self, thought: str, facts: Mapping[str, Any]) -> float:
        return _sound(thought, facts)


@dataclass(frozen=True)
class AskedCheck(FactCheck):
    """1 where all that the thought claims is true and it names every finding of the picture, else 0."""

    name: ClassVar[str] = "asked_check"

    def _judge(self, thought: str, facts: Mapping[str, Any]) -> float:
        named = {value for letter, value in _claims(thought) if letter == "t"}
        asked = {finding["type"] for finding in facts["findings"]}
        return _sound(thought, facts) if asked <= named else 0.0


def _sound(thought: str, facts: Mapping[str, Any]) -> float:
    checked = [_sentence(sentence, facts) for sentence in thought.split(".") if sentence.strip()]
    verdicts = [verdict for verdict in checked if verdict is not None]
    return float(bool(verdicts) and all(verdicts))


def _sentence(sentence: str, facts: Mapping[str, Any]) -> bool | None:
    """Whether a sentence is true; `None` where it claims nothing that can be held against the facts."""
    said = _claims(sentence.replace(SIGN, "").partition(RELATIVE)[0])
    denied = any(letter in "nW" for letter, _ in said)
    about_image = [(IMAGE[letter], value) for letter, value in said if letter in IMAGE]
    types = [value for letter, value in said if letter == "t"]
    details = [(FINDING[letter], value) for letter, value in _placed(said) if letter in FINDING]
    if not types:  # "of large diameter" is a sign and no size
        details = [(name, value) for name, value in details if name != "size"]
    normal = any(letter in "wW" for letter, _ in said) or (denied and any(letter in "A" for letter, _ in said))
    if not (about_image or types or details or normal):
        return None
    findings = facts["findings"]
    if any(facts[name] != value for name, value in about_image if not (types or details)):
        return False
    if normal and not types:
        return not findings or (bool(details) and not any(_all(finding, details) for finding in findings))
    present = {finding["type"] for finding in findings}
    if denied:
        return not present & set(types)
    return set(types) <= present and all(_some(findings, types, name, value) for name, value in details)


def _all(finding: Mapping[str, Any], details: Sequence[tuple[str, str]]) -> bool:
    """Whether a finding lies where the details say: then that place is not normal."""
    return all(value in (finding[name], _implied(finding, name)) for name, value in details)


def _some(findings: Sequence[Mapping[str, Any]], types: Sequence[str], name: str, value: str) -> bool:
    """Whether one of the findings, of the named types where any are named, has the detail."""
    asked = [finding for finding in findings if not types or finding["type"] in types]
    return any(value in (finding[name], _implied(finding, name)) for finding in asked)


def _implied(finding: Mapping[str, Any], name: str) -> str | None:
    return ORGAN_SIDES.get(finding["place"]) if name == "side" else None


def _placed(said: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The claims without organs that are only named as landmarks."""
    letters = "".join(letter for letter, _ in said)
    return [
        (letter, value)
        for at, (letter, value) in enumerate(said)
        if value not in ORGANS or letters[:at].rstrip("ds").endswith("g")
    ]


def _claims(sentence: str) -> list[tuple[str, str]]:
    """Phrases of the lexicon in a sentence, longest first, from the left; other words are passed over."""
    words = words_of(sentence)
    found, at = [], 0
    while at < len(words):
        for length in range(min(LONGEST, len(words) - at), 0, -1):
            if (entry := PHRASES.get(tuple(words[at : at + length]))) is not None:
                found.append(entry)
                at += length
                break
        else:
            at += 1
    return found
