"""The closed grammar of phantom answers: from a text to what it claims, or to nothing.

A text is cut into phrases of a fixed lexicon, each of one class (a letter); a sentence is in the grammar when its
letters match one of `FORMS`. Words outside the lexicon, hedges among them, put the whole text outside the grammar.

    "Yes, there is a small nodule in the right upper zone"  ->  polarity yes, {type nodule, size small, side right, …}
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

MAX_WORDS = 40

LEXICON: dict[str, dict[str, tuple[str, ...]]] = {
    "t": {  # findings
        "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
        "consolidation": (
            *("consolidation", "lung consolidation", "pneumonia", "airspace opacity", "air space opacity"),
            *("airspace consolidation", "airspace disease"),
        ),
        "effusion": ("effusion", "pleural effusion", "pleural fluid", "fluid in the pleural space"),
        "pneumothorax": ("pneumothorax", "pneumothoraces", "collapsed lung", "air in the pleural space"),
        "cardiomegaly": (
            *("cardiomegaly", "enlarged heart", "cardiac enlargement", "enlargement of the heart", "heart enlargement"),
            *("enlarged cardiac silhouette", "enlarged heart shadow"),
        ),
        "cyst": ("cyst", "simple cyst", "fluid filled lesion", "cystic lesion"),
        "mass": ("mass", "masses", "tumor", "tumour", "neoplasm", "solid lesion"),
        "stone": (
            *("stone", "kidney stone", "renal stone", "renal calculus", "renal calculi", "calculus", "calculi"),
            *("kidney calculus", "kidney calculi", "nephrolithiasis"),
        ),
        "aneurysm": ("aneurysm", "aortic aneurysm", "dilated aorta", "aneurysm of the aorta", "enlarged aorta"),
        "ascites": ("ascites", "free fluid", "abdominal fluid", "fluid in the abdomen"),
        "splenomegaly": ("splenomegaly", "enlarged spleen", "splenic enlargement", "enlargement of the spleen"),
        "infarct": ("infarct", "infarction", "stroke", "ischemic stroke", "ischaemic stroke", "brain infarct"),
        "hemorrhage": (
            *("hemorrhage", "haemorrhage", "brain hemorrhage", "brain haemorrhage", "intracerebral hemorrhage"),
            *("intracerebral haemorrhage", "bleed", "brain bleed", "bleeding", "bleeding in the brain"),
            "intracerebral bleed",
        ),
        "subdural": (
            *("subdural hematoma", "subdural haematoma", "subdural hemorrhage", "subdural haemorrhage"),
            *("subdural collection", "subdural bleed", "subdural bleeding"),
        ),
        "hydrocephalus": (
            *("hydrocephalus", "enlarged ventricles", "dilated ventricles", "ventriculomegaly"),
            "enlargement of the ventricles",
        ),
    },
    "s": {
        "right": ("right", "right side", "right sided", "right lung", "right hemisphere"),
        "left": ("left", "left side", "left sided", "left lung", "left hemisphere"),
        "both": ("both", "both sides", "bilateral", "both lungs"),
    },
    "l": {
        "upper zone": ("upper zone", "upper lung zone", "upper lung", "upper lobe"),
        "middle zone": ("middle zone", "mid zone", "middle lung zone", "mid lung zone", "middle lung", "mid lung"),
        "lower zone": ("lower zone", "lower lung zone", "lower lung", "lower lobe"),
        "frontal lobe": ("frontal lobe",),
        "parietal lobe": ("parietal lobe", "parietal"),
        "occipital lobe": ("occipital lobe", "occipital"),
        "kidney": ("kidney", "renal"),
        "liver": ("liver", "hepatic"),
        "spleen": ("spleen", "splenic"),
    },
    "z": {"small": ("small", "tiny", "little"), "large": ("large", "big", "sizeable")},
    "c": {
        "0": ("none", "zero", "0"),
        "1": ("one", "1", "single"),
        "2": ("two", "2"),
        "3": ("three", "3"),
        "4": ("four", "4"),
    },
    "m": {
        "xray": (
            *("x ray", "xray", "radiograph", "plain film", "x ray image", "plain radiograph", "radiography"),
            *("chest film", "chest x ray", "chest xray", "chest radiograph"),
        ),
        "ct": ("ct", "ct scan", "ct image", "computed tomography", "cat scan", "computed tomography scan"),
        "mr": ("mri", "mr", "mri scan", "mr scan", "mr image", "mri image", "magnetic resonance imaging"),
    },
    "p": {
        "frontal": ("frontal", "frontal view", "frontal plane", "frontal image"),
        "axial": ("axial", "axial plane", "axial view", "axial image", "transverse", "transverse plane", "axial slice"),
    },
    "o": {
        "chest": ("chest", "thorax", "lungs", "thoracic"),
        "abdomen": ("abdomen", "belly", "abdominal"),
        "brain": ("brain", "head", "cerebral"),
    },
    "w": {"normal": ("normal", "unremarkable", "healthy")},
    "A": {"any": ("abnormality", "abnormal finding", "finding", "lesion", "disease")},
    "W": {"any": ("nothing abnormal", "nothing wrong", "nothing")},
    "X": {"any": ("abnormal",)},
    "n": {"no": ("no", "not", "without", "no evidence of", "no sign of")},
    "y": {"yes": ("yes",)},
    "d": {"": ("a", "an", "the")},
    "i": {"": ("image", "scan", "picture", "this image", "this scan", "this picture", "side", "size", "number")},
    "h": {"": ("it", "this", "that", "they", "these", "answer")},
    "b": {"": ("is", "are")},
    "e": {"": ("there is", "there are")},
    "f": {"": ("shows", "show")},
    "g": {"": ("in", "on", "at", "of", "within")},
    "v": {"": ("seen", "present", "visible", "noted", "located", "in size")},
    "u": {"": ("lung", "hemisphere", "side")},
    "k": {"": ("and", "with")},
    ",": {"": (",",)},
}
"""Class letter -> value -> phrases. A plural in `s` of a phrase of class `t` or `A` needs no entry of its own."""

_NOUN = "(?:d?[czsl]{0,4}t)"
_LOC = "(?:gd?[sl]{1,2}(?:gd?[slo]u?)?|gd?[io])"
_FINDING = f"(?:{_NOUN}{_LOC}{{0,2}}v?)"
_IMAGE = "(?:d?w?p?o?m(?:gd?o)?|d?w?o|d?p)"
FORMS: dict[str, re.Pattern[str]] = {
    "finding": re.compile(f"(?:e|hb|d?if|hf|d?[iA]b)?{_FINDING}b?v?"),
    "predicate": re.compile(f"(?:{_NOUN}|h|d?A|d?i)b(?:zv?|c|v?{_LOC}|[sl]{{1,2}})"),
    "fragment": re.compile(f"(?:z(?:v|d?i)?|c|{_LOC}|d?[sl]{{1,2}}u?(?:gd?[slo]u?)?)"),
    "image": re.compile(f"(?:hb|d?ib|d?if|hf|e)?g?{_IMAGE}"),
    "normal": re.compile("(?:hb|d?ib|d?[om]b|b)?w"),
    "abnormal": re.compile("(?:(?:e|d?if|hf)?d?A(?:gd?[io])?(?:b?v)?|(?:hb|d?ib|d?[om]b)?X)"),
    "nothing": re.compile("(?:W(?:b?v)?|(?:d?if|hf)W)"),
}
NEGATED: dict[str, re.Pattern[str]] = {
    "finding": re.compile(f"(?:e|d?if|hf)?n{_FINDING}b?v?|(?:{_NOUN})bnv"),
    "predicate": re.compile(f"(?:{_NOUN}|h|d?i)bn(?:zv?|c|v?{_LOC}|[sl]{{1,2}})"),
    "image": re.compile(f"(?:hb|d?ib)n{_IMAGE}"),
    "normal": re.compile("(?:hb|d?ib|d?[om]b)?nw"),
    "abnormal": re.compile("(?:(?:e|d?if|hf)?nA(?:gd?[io])?(?:b?v)?|(?:hb|d?ib|d?[om]b)?nX)"),
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What one clause says: `values` maps class letters to values; `form` is a key of `FORMS`."""

    form: str
    values: tuple[tuple[str, str], ...]
    negated: bool = False

    def get(self, letter: str) -> str | None:
        """The value of a class, or `None` where the clause says nothing of it."""
        return dict(self.values).get(letter)


@dataclass(frozen=True, slots=True)
class Reading:
    """A text in the grammar: an optional yes or no, and clauses."""

    polarity: str | None
    claims: tuple[Claim, ...]


def _phrases() -> dict[tuple[str, ...], tuple[str, str]]:
    table: dict[tuple[str, ...], tuple[str, str]] = {}
    for letter, values in LEXICON.items():
        for value, phrases in values.items():
            for phrase in phrases:
                table[tuple(phrase.split())] = (letter, value)
                if letter in "tA":
                    plural = f"{phrase[:-1]}ies" if phrase.endswith("y") else f"{phrase}s"
                    table.setdefault(tuple(plural.split()), (letter, value))
    return table


PHRASES = _phrases()
LONGEST = max(len(phrase) for phrase in PHRASES)


def words_of(text: str) -> list[str]:
    """Lower-case words, numbers, commas and full stops; any other character stands alone, outside the lexicon.

    >>> words_of("An X-ray, right-sided.")
    ['an', 'x', 'ray', ',', 'right', 'sided', '.']
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("-", " ")
    return re.findall(r"[a-z]+|[0-9]+|\S", plain)


def read_answer(text: str) -> Reading | None:
    """What a text says; `None` outside the grammar."""
    found = words_of(text)
    if not found or len(found) > MAX_WORDS:
        return None
    polarity, rest = _polarity(found)
    if polarity is not None and not rest:
        return Reading(polarity, ())
    claims: list[Claim] = []
    for sentence in _split(rest, "."):
        clauses = _clauses(sentence)
        if clauses is None:
            return None
        claims += clauses
    facts = [(*claim.values, (claim.form, "")) for claim in claims]
    if not claims or len(set(facts)) < len(facts):
        return None
    return Reading(polarity, tuple(claims))


def _polarity(found: list[str]) -> tuple[str | None, list[str]]:
    """A leading yes or no; `no` only before a pause or a new clause, else it negates what follows."""
    if found[0] not in ("yes", "no"):
        return None, found
    rest = found[1:]
    if rest and rest[0] in (",", "."):
        return found[0], rest[1:]
    if found[0] == "yes" or not rest or rest[0] in ("there", "it", "this", "the"):
        return found[0], rest
    return None, found


def _split(found: list[str], mark: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in found:
        if word == mark:
            parts.append([])
        else:
            parts[-1].append(word)
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


def _lex(found: list[str]) -> list[tuple[str, str]] | None:
    """Longest phrases first, from the left; `None` when a word is not in the lexicon."""
    out: list[tuple[str, str]] = []
    at = 0
    while at < len(found):
        for length in range(min(LONGEST, len(found) - at), 0, -1):
            if (entry := PHRASES.get(tuple(found[at : at + length]))) is not None:
                out.append(entry)
                at += length
                break
        else:
            return None
    return out


def _clauses(sentence: list[str]) -> list[Claim] | None:
    """Claims of one sentence, whose findings `and`, `with` or a comma may join."""
    entries = _lex(sentence)
    if not entries:
        return None
    claims = []
    for number, part in enumerate(_parts(entries)):
        claim = _claim(part)
        if claim is None or (number and claim.form != "finding"):
            return None
        claims.append(claim)
    if len(claims) > 1 and (claims[0].form != "finding" or any(claim.negated for claim in claims)):
        return None
    return claims


def _parts(entries: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    parts: list[list[tuple[str, str]]] = [[]]
    for entry, before in zip(entries, [("", ""), *entries], strict=False):
        if entry[0] == "k" and before[0] == ",":
            continue
        if entry[0] in "k,":
            parts.append([])
        else:
            parts[-1].append(entry)
    return parts


def _claim(part: list[tuple[str, str]]) -> Claim | None:
    if any(letter in "ts" for letter, _ in part):  # "left frontal mass": there `frontal` is a place, not a plane
        part = [("l", "frontal lobe") if entry == ("p", "frontal") else entry for entry in part]
    letters = "".join(letter for letter, _ in part)
    for forms, negated in ((FORMS, False), (NEGATED, True)):
        for form, pattern in forms.items():
            if pattern.fullmatch(letters):
                values = _values(part)
                return None if values is None else Claim(form, values, negated)
    return None


def _values(part: list[tuple[str, str]]) -> tuple[tuple[str, str], ...] | None:
    """The claims of a clause in one order; `None` when it contradicts itself."""
    values: dict[str, str] = {}
    for letter, value in part:
        if letter in "tslzcmpowAWX" and values.setdefault(letter, value) != value:
            return None
    return tuple(sorted(values.items()))
