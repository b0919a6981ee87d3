"""Right wordings: the several ways in which radiologists say one fact.

Every function returns all wordings of its fact; one of them is drawn as the reference. `truth` knows none of this: it
grades with a grammar of its own, and the tests hold the two against each other.
"""

from __future__ import annotations

from itertools import product

from medrft.data.phantom.world import SIDED_PLACES, Finding, Modality, Scene

NOUNS: dict[str, tuple[str, ...]] = {
    "nodule": ("nodule", "lung nodule", "pulmonary nodule"),
    "consolidation": ("consolidation", "pneumonia", "airspace opacity"),
    "effusion": ("pleural effusion", "effusion", "pleural fluid"),
    "pneumothorax": ("pneumothorax", "collapsed lung"),
    "cardiomegaly": ("cardiomegaly", "enlarged heart", "enlarged cardiac silhouette"),
    "cyst": ("cyst", "simple cyst", "fluid-filled lesion"),
    "mass": ("mass", "tumor", "neoplasm"),
    "stone": ("kidney stone", "renal stone", "renal calculus"),
    "aneurysm": ("aortic aneurysm", "dilated aorta"),
    "ascites": ("ascites", "free fluid", "abdominal fluid"),
    "splenomegaly": ("splenomegaly", "enlarged spleen"),
    "infarct": ("infarct", "stroke", "infarction"),
    "hemorrhage": ("brain hemorrhage", "intracerebral hemorrhage", "brain bleed"),
    "subdural": ("subdural hematoma", "subdural hemorrhage", "subdural collection"),
    "hydrocephalus": ("hydrocephalus", "enlarged ventricles", "dilated ventricles"),
}
PLURALS = {
    "mass": "masses",
    "calculus": "calculi",
    "pneumonia": "pneumonia",
    "fluid": "fluid",
    "ventricles": "ventricles",
    "opacity": "opacities",
    "density": "densities",
    "focus": "foci",
}
MASS_NOUNS = ("pneumonia", "consolidation", "ascites", "fluid", "cardiomegaly", "splenomegaly", "hydrocephalus")
"""Last words that take no article, besides plurals."""

COUNTS: dict[int, tuple[str, ...]] = {1: ("one", "1", "a single"), 2: ("two", "2"), 3: ("three", "3")}
SIZES: dict[str, tuple[str, ...]] = {"small": ("small", "tiny"), "large": ("large", "big")}
MODALITIES: dict[Modality, tuple[str, ...]] = {
    "xray": ("X-ray", "chest X-ray", "radiograph", "chest radiograph"),
    "ct": ("CT", "CT scan", "computed tomography"),
    "mr": ("MRI", "MRI scan", "MR", "magnetic resonance imaging"),
}
PLANES: dict[str, tuple[str, ...]] = {
    "frontal": ("frontal", "frontal view", "frontal plane"),
    "axial": ("axial", "axial plane", "transverse", "transverse plane"),
}
ORGANS: dict[str, tuple[str, ...]] = {
    "chest": ("chest", "the chest", "thorax"),
    "abdomen": ("abdomen", "the abdomen", "belly"),
    "brain": ("brain", "the brain", "head"),
}
NORMAL = ("no abnormality", "normal", "nothing abnormal", "no abnormal finding")
NORMAL_IMAGES: dict[Modality, tuple[str, ...]] = {
    "xray": ("normal chest X-ray", "normal chest"),
    "ct": ("normal abdominal CT", "normal abdomen"),
    "mr": ("normal brain MRI", "normal brain"),
}


def finding_nouns(finding: Finding) -> tuple[str, ...]:
    """Names of a finding, in the plural where there are several."""
    names = NOUNS[finding.type]
    return tuple(plural_noun(name) for name in names) if finding.count > 1 else names


def plural_noun(noun: str) -> str:
    """The plural of a noun phrase.

    >>> plural_noun("lung nodule"), plural_noun("renal calculus")
    ('lung nodules', 'renal calculi')
    """
    head, _, last = noun.rpartition(" ")
    return f"{head} {PLURALS.get(last, last + 's')}".strip()


def with_article(phrase: str, finding: Finding) -> str:
    """The phrase with `a` or `an` where English wants one."""
    last = phrase.split()[-1]
    if finding.count > 1 or last in MASS_NOUNS or last == "ventricles" or phrase.split()[0] in ("two", "three"):
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def finding_locations(finding: Finding) -> tuple[str, ...]:
    """Where a finding lies, as a noun phrase; empty where its name says so already."""
    side, place = finding.side, finding.place
    if place is None:
        return () if side is None else {"both": ("both sides",)}.get(side, (f"{side} side",))
    if side is None:
        return (place, f"the {place}")
    assert place in SIDED_PLACES
    if place.endswith("zone"):
        return (f"{side} {place}", f"the {side} {place}", f"{place} of the {side} lung")
    return (f"{side} {place}", f"the {side} {place}")


def side_words(finding: Finding) -> tuple[str, ...]:
    """The side, as an answer."""
    if finding.side == "both":
        return ("both", "both sides", "bilateral")
    return (f"{finding.side}", f"{finding.side} side", f"on the {finding.side}", f"{finding.side}-sided")


def size_words(finding: Finding) -> tuple[str, ...]:
    """The size, as an answer."""
    assert finding.size is not None
    return (*SIZES[finding.size], f"it is {finding.size}")


def count_words(finding: Finding) -> tuple[str, ...]:
    """The number, as an answer."""
    named = () if finding.count == 1 else tuple(f"{COUNTS[finding.count][0]} {noun}" for noun in finding_nouns(finding))
    return (*COUNTS[finding.count][:2], *named)


def place_words(finding: Finding) -> tuple[str, ...]:
    """The place, as an answer to `where`."""
    whole = finding_locations(finding)
    return (*whole, *(f"in {phrase}" for phrase in whole if phrase.startswith("the ")))


def finding_names(finding: Finding) -> tuple[str, ...]:
    """The finding named, with or without its side."""
    plain = finding_nouns(finding)
    if finding.side == "both":
        return (*plain, *(f"bilateral {noun}" for noun in plain))
    if finding.side is None:
        return plain
    sided = tuple(f"{finding.side} {noun}" for noun in plain)
    return (*plain, *sided, *(f"{noun} on the {finding.side}" for noun in plain))


def finding_descriptions(finding: Finding) -> tuple[str, ...]:
    """All that is known of a finding: how many, how large, where."""
    out: list[str] = []
    for noun in finding_nouns(finding):
        body = " ".join(part for part in (_amount(finding), finding.size, noun) if part)
        if finding.side is None and finding.place is None:
            out += [body, f"there {noun_verb(noun, finding)} {with_article(body, finding)}"]
            continue
        for where in _where(finding):
            out += [f"{body} {where}", f"there {noun_verb(noun, finding)} {with_article(body, finding)} {where}"]
        if adjectives := _adjectives(finding):
            out.append(" ".join(p for p in (_amount(finding), finding.size, adjectives, noun) if p))
    return tuple(out)


def scene_abnormalities(scene: Scene) -> tuple[str, ...]:
    """All findings of the scene named in one answer."""
    if not scene.findings:
        return (*NORMAL, *NORMAL_IMAGES[scene.modality])
    if len(scene.findings) == 1:
        return finding_names(scene.findings[0])
    first, second = (finding_names(finding) for finding in scene.findings)
    return tuple(f"{a} and {b}" for x, y in ((first, second), (second, first)) for a, b in product(x, y))


def noun_verb(noun: str, finding: Finding) -> str:
    """`is` or `are`, as the name of a finding wants it."""
    return "are" if (finding.count > 1 and not noun.endswith(MASS_NOUNS)) or noun.endswith("ventricles") else "is"


def _amount(finding: Finding) -> str | None:
    return None if finding.count == 1 or finding.side == "both" else COUNTS[finding.count][0]


def _where(finding: Finding) -> tuple[str, ...]:
    if finding.place is None:
        return ("on both sides",) if finding.side == "both" else (f"on the {finding.side}",)
    return tuple(f"in {phrase}" for phrase in finding_locations(finding) if phrase.startswith("the ")) + (
        (f"in the {finding.place} of the {finding.side} lung",) if finding.place.endswith("zone") else ()
    )


def _adjectives(finding: Finding) -> str | None:
    if finding.side == "both":
        return "bilateral"
    if finding.place is None:
        return finding.side
    if finding.side is None or finding.type == "stone":
        return None
    return f"{finding.side} {finding.place}"
