"""From the mentions of one stretch of a text to a `Finding` in its canonical form, by way of a mutable `Draft`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from medrft.scorers.clinical.lexicon import STATING, Atom, Lexicon
from medrft.scorers.clinical.quantities import BEFORE
from medrft.scorers.clinical.reading import NOTHING, Finding, Measure

WHOLE_ORGAN = {"large": "enlarged", "huge": "enlarged", "small": "small_organ", "tiny": "small_organ"}
MATERIALS = {
    **{"fluid": "fluid_density", "csf": "fluid_density", "adipose_tissue": "fat_density", "gas": "air_density"},
    **{"soft_tissue": "soft_tissue_density", "bone": "calcific_density", "muscle": "soft_tissue_density"},
}
REGION_LETTERS = {"cervical_spine": "c", "thoracic_spine": "t", "lumbar_spine": "l", "sacrum": "s"}
STATES = frozenset(("organ_size", "thickness", "severity"))
REGIONS = frozenset(("lobe", "lung_lobe", "lung_base", "lung_apex", "hemisphere", "abdominal_quadrant"))

IMAGED = frozenset(("modality", "plane", "change"))
"""Facets on which an image has a value."""
PAST = frozenset(("acuity", "novelty", "timing"))
"""Axes on which an earlier image has a value: "prior"."""

NONE: frozenset[Any] = frozenset()
"""Shared, because most findings have most facets empty, and Python makes each empty set anew."""


@lru_cache(maxsize=16_384)
def only(value: str | float) -> frozenset[Any]:
    """The set of one concept, value or number; shared for the same reason."""
    return frozenset((value,))


@dataclass(slots=True, init=False)
class Draft:
    """What has been read of one finding so far; nothing, to begin with."""

    text: list[str]
    names: list[str]
    places: list[str]
    levels: list[str]
    kinds: list[str]
    values: dict[str, set[str]]
    bound: dict[tuple[str, str], str]
    counts: list[float]
    measures: list[Measure]
    words: list[str]
    dimensions: list[str]
    turned: dict[str, str]
    """Axis -> the value that was negated: for "not enlarged", `enlarged`."""
    pending: list[Atom]
    negative: bool
    ahead: bool
    """The negation stands before what it negates, so it may also hold for a list that follows."""
    backwards: bool
    """The negation stands after what it negates."""
    verb: bool
    affirmed: bool
    """It is said to be seen or positive, so that a negation further on does not reach back to it."""
    prior: bool
    """It is about an earlier image ("not seen on prior")."""
    certainty: float
    alternatives: bool
    states: bool
    pronoun: bool
    """It says "one" of what the stretch before names."""

    def __init__(self) -> None:
        # By hand, because the generated one takes a third longer, and one is made for each stretch of each text.
        self.text, self.names, self.places, self.levels, self.kinds, self.words = [], [], [], [], [], []
        self.counts, self.measures, self.dimensions, self.pending = [], [], [], []
        self.values, self.bound, self.turned = {}, {}, {}
        self.negative = self.ahead = self.backwards = self.verb = self.affirmed = self.prior = False
        self.alternatives = self.states = self.pronoun = False
        self.certainty = 1.0

    @property
    def heads(self) -> bool:
        """Whether it names anything: a finding, a place, a level, a modality or an unknown word."""
        return bool(self.names or self.places or self.levels or self.kinds or self.words)

    @property
    def only_values(self) -> bool:
        """Whether it holds only values and numbers, and names nothing that they are said of."""
        return not self.heads and self.has_content

    @property
    def only_places(self) -> bool:
        """Whether it names a place and says nothing of it."""
        return bool(self.places) and not (self.names or self.kinds or self.words or self.values)

    @property
    def has_content(self) -> bool:
        """Whether anything was said."""
        return bool(self.heads or self.values or self.counts or self.measures or self.dimensions)

    def tells_of_an_image(self, made: Lexicon) -> bool:
        """Whether it names no finding or place, and says only what an image has: when and how it was taken."""
        if self.names or self.places or self.levels or self.words:
            return False
        axes = (made.axes[axis] for axis in self.values if axis in made.axes)
        return all(axis.facet in IMAGED or axis.name in PAST for axis in axes)

    @property
    def says_normal(self) -> bool:
        """Whether "normal" is among its values."""
        return "normal" in self.values.get("normality", ())

    def add(self, atoms: Iterable[Atom]) -> None:
        """Add what a term says. Values are kept in `pending` until the next finding or place, and are bound to it."""
        heads = []
        for atom in atoms:
            facet, axis, value = atom
            if axis == "name":
                self.names.append(value)
                heads.append(value)
            elif axis == "place":
                self.places.append(value)
                heads.append(value)
            elif axis == "level":
                self.levels.append(value)
            elif axis == "kind":
                self.kinds.append(value)
            else:
                if axis in self.values:
                    self.values[axis].add(value)
                else:
                    self.values[axis] = {value}
                self.pending.append(atom)
                self.states = self.states or facet in STATING or axis in STATES
        if heads and (way := _spread(atoms)):
            self._bind_spread(way, atoms)
        if heads and self.pending:
            said = [axis for _, axis, _ in self.pending]
            for _, axis, value in self.pending:
                if said.count(axis) == 1:  # "the base of the middle lobe" binds neither of the two
                    for head in heads:
                        self.bound.setdefault((axis, head), value)
            self.pending.clear()

    def _bind_spread(self, way: str, atoms: Iterable[Atom]) -> None:
        """Say of a tumor's place whether it came from there ("lung cancer") or went there ("brain metastasis")."""
        places = [atom.value for atom in atoms if atom.axis == "place"] or self.places[-1:]
        for place in places:
            self.bound.setdefault(("way", place), way)

    def word(self, word: str) -> None:
        """Add a word that the lexicon does not know."""
        self.words.append(word)

    def measure(self, kind: str, measure: Measure) -> None:
        """Add a count, or numbers with a unit."""
        if kind == "count" or not measure[0]:
            self.counts.extend(measure[1])
        else:
            self.measures.append(measure)

    def inherit(self, other: Draft) -> None:
        """Take what another stretch names, for a stretch that names nothing: "one on the left"."""
        self.names, self.places = list(other.names), self.places or list(other.places)
        self.kinds, self.words = list(other.kinds), list(other.words)

    def share_state(self, other: Draft) -> None:
        """Take the state of another place of the same list: whether it is normal, or its size."""
        for axis in ("normality", "organ_size"):
            if axis in other.values:
                self.values[axis] = set(other.values[axis])
                self.states = True

    def absorb(self, other: Draft, *, picture: bool, hedged: bool) -> None:
        """Take over what another stretch says of the same finding.

        With `picture`, a side that contradicts the side of the place says where it is in the picture, as in "right
        lung, left": a radiograph shows the patient's right on its left.
        """
        self.text += [*([","] if other.text else []), *other.text]
        for name in ("names", "places", "levels", "kinds", "counts", "measures", "words", "dimensions", "pending"):
            getattr(self, name).extend(getattr(other, name))
        for axis, values in other.values.items():
            mine = self.values.setdefault(axis, set())
            if picture and axis == "side" and mine and not mine & values:
                self.values.setdefault("picture_side", set()).update(f"picture_{value}" for value in values)
                continue
            self.alternatives = self.alternatives or (hedged and bool(mine) and not values <= mine)
            mine |= values
        for key, value in other.bound.items():
            self.bound.setdefault(key, value)
        self.turned.update(other.turned)
        self.negative = self.negative or other.negative
        self.verb = self.verb or other.verb
        self.states = self.states or other.states
        self.certainty = min(self.certainty, other.certainty)

    def finding(self, made: Lexicon) -> Finding:
        """The finding, in its canonical form."""
        if self.dimensions or "magnitude" in self.values:
            self._measure_organs(made)
        if self.negative or "normality" in self.values:
            self._settle_polarity(made)
        self._rewrite(made)
        names = _precise(made, self.names) if self.names else NONE
        places = _precise(made, self.places) if self.places else NONE
        kinds = _precise(made, self.kinds) if self.kinds else NONE
        if len(names) > 1:
            names = frozenset(name for name in names if name not in made.generic) or names
        if len(self.values.get("side", ())) > 1 and {"left", "right"} <= self.values["side"] and not self.alternatives:
            self.values["side"] = {"bilateral"}
        if "removed" in self.values.get("placement", ()) and any("device" in made.ancestors.get(n, ()) for n in names):
            self.values["placement"].discard("removed")  # "the chest tube has been removed": there is none
            self.negative = True
        counts: frozenset[float] = NONE
        if self.counts:
            counts = only(self.counts[0]) if len(self.counts) == 1 else frozenset(self.counts)
        negative = self.negative or (counts == {0.0})
        levels = self._named_levels() if self.levels else NONE
        values = {
            axis: only(*values) if len(values) == 1 else frozenset(values)
            for axis, values in self.values.items()
            if values
        }
        measures = tuple(self._dated_measures()) if self.measures else ()
        words = tuple(dict.fromkeys(self.words)) if self.words else ()
        turned = frozenset(self.turned) if self.turned else NONE
        text, bound = " ".join(self.text), self.bound or NOTHING
        counts = counts - {0.0} if 0.0 in counts else counts
        # By position, which is twice as fast as by name.
        more = negative, self.certainty, turned, self.alternatives
        return Finding(text, names, places, levels, kinds, values, bound, counts, measures, words, *more)

    def _named_levels(self) -> frozenset[str]:
        """The levels, vertebrae by their short names: "12th thoracic vertebra" is t12."""
        letter = next((REGION_LETTERS[place] for place in self.places if place in REGION_LETTERS), "")
        return frozenset(letter + level if level.isdigit() else level for level in self.levels)

    def _dated_measures(self) -> Iterable[Measure]:
        """The measures; an earlier one without a unit ("5.6 cm, previously 5.1") has that of the present one."""
        now = next((measure for measure in self.measures if not measure[0].startswith(BEFORE)), None)
        for unit, numbers in self.measures:
            if unit.strip() == BEFORE and now is not None:
                scale = min((1.0, 10.0), key=lambda factor: abs(now[1][0] - numbers[0] * factor))
                yield f"{BEFORE} {now[0]}", tuple(number * scale for number in numbers)
            else:
                yield unit, numbers

    def _measure_organs(self, made: Lexicon) -> None:
        """Read "increased heart size" and "large liver" as organ sizes, and "increased density" as brightness."""
        for dimension in dict.fromkeys(self.dimensions):
            axis, gives = made.dimensions[dimension]
            for source in ("trend", "magnitude", "normality", "vertical", "novelty", "degree", "texture"):
                for value in tuple(self.values.get(source, ())):
                    if value in gives and not (axis == "organ_size" and self.names):
                        self.values.setdefault(axis, set()).add(gives[value])
                        self.values[source].discard(value)
        self._liken()
        if "organ_size" not in self.values and not self.names and self.places and not REGIONS & set(self.places):
            sizes = self.values.get("magnitude", set())
            for value in sizes & set(WHOLE_ORGAN):
                self.values.setdefault("organ_size", set()).add(WHOLE_ORGAN[value])
                sizes.discard(value)

    def _rewrite(self, made: Lexicon) -> None:
        """Replace what was said in pieces by its name: "the bronchi are dilated" is bronchiectasis.

        It also works if a piece is negated: "midline structures are not displaced" is no midline shift.
        """
        if len(self.names) + len(self.places) + len(self.values) < 2:
            return
        whole = {*self.names, *self.places, *self.turned.values()}.union(*self.values.values())
        # Most names begin no rule, and most rules that they begin lack a piece.
        begun = [pieces for value in whole if value in made.rewritable for pieces in made.rewritable[value]]
        if not begun or (not self.turned and not any(map(whole.issuperset, begun))):
            return
        values = {(axis, value) for axis, said in self.values.items() for value in said}
        if self._apply(made, values) or not self.turned or self.names:
            return
        said = {(axis, value) for axis, value in values if axis not in self.turned} | set(self.turned.items())
        kept = {axis: self.values.pop(axis) for axis in self.turned if axis in self.values}
        if self._apply(made, said):
            self.turned.clear()
            self.negative = not self.negative
            self._settle_polarity(made)
        else:
            self.values.update(kept)

    def _apply(self, made: Lexicon, values: set[tuple[str, str]]) -> bool:
        """Apply the longest rule whose pieces are all there."""
        atoms = {Atom("finding", "name", name) for name in self.names} | {
            Atom("anatomy", "place", p) for p in self.places
        }
        atoms |= {
            Atom(made.axes[axis].facet if axis in made.axes else "category", axis, value) for axis, value in values
        }
        rules = [rule for atom in atoms for rule in made.rewrites.get(atom, ()) if rule[0] <= atoms]
        if not rules:
            return False
        pieces, meaning = max(rules, key=lambda rule: (len(rule[0]), sorted(rule[0])))
        natural = {site for atom in meaning for site in made.sites.get(atom.value, ())}
        for facet, axis, value in pieces:
            if axis == "name":
                self.names = [name for name in self.names if name != value]
            elif facet == "anatomy":
                self.places = [place for place in self.places if place != value or place in natural]
            elif axis in self.values:
                self.values[axis].discard(value)
        self.add(meaning)
        return True

    def _liken(self) -> None:
        """In "attenuation like fat" or "fluid signal" the material describes the density, and is not what is found."""
        if "brightness" not in self.dimensions or "brightness" in self.values:
            return
        for heads in (self.names, self.places):
            for head in [head for head in heads if head in MATERIALS]:
                heads.remove(head)
                self.values.setdefault("attenuation_kind", set()).add(MATERIALS[head])

    def _settle_polarity(self, made: Lexicon) -> None:
        """Read "no abnormality" as normal, and "abnormal lesion" as a lesion."""
        normality = self.values.get("normality", set())
        if self.negative and not self.names and "abnormal" in normality:
            self.values["normality"] = {"normal"}
            self.turned["normality"] = "abnormal"
            self.negative = False
        elif self.names and "abnormal" in normality:
            normality.discard("abnormal")
        elif self.negative and self.only_places and "change" in self.text:  # "no adrenal change"
            self.values["normality"] = {"normal"}
            self.negative = False
        if self.negative and not self.names and not self.words:
            self._turn_state(made)

    def _turn_state(self, made: Lexicon) -> None:
        """Read a negated state of a place as its other state: "no cardiomegaly" is a heart of normal size."""
        states = [axis for axis, values in self.values.items() if axis in made.axes and len(values) == 1]
        states = [axis for axis in states if axis not in ("novelty", "timing")]  # when it was seen is not denied
        turning = [axis for axis in states if next(iter(self.values[axis])) in made.axes[axis].negation]
        if not turning and self.places:  # "no ST elevation" is an ST segment that is not elevated
            turning = [axis for axis in states if made.axes[axis].facet in STATING]
        if len(turning) == 1:
            (value,) = self.values[turning[0]]
            self.values[turning[0]] = {made.other_value(turning[0], value)}
            self.turned[turning[0]] = value
            self.negative = False


def _spread(atoms: Iterable[Atom]) -> str:
    """Which way a tumor spread, by its name: to the place of a metastasis, from that of another malignant one."""
    said = {atom.value for atom in atoms}
    return "to" if "metastasis" in said else "from" if "malignant" in said else ""


def _precise(made: Lexicon, concepts: Collection[str]) -> frozenset[str]:
    """Concepts without those that another one implies. "Lobe" implies no organ, so beside it "liver" is kept."""
    if len(concepts) < 2:
        return only(*concepts) if concepts else NONE
    named = frozenset(concepts)
    if len(named) < 2:
        return named
    implied = {above for concept in named for above in made.sure_ancestors(concept)}
    return named - implied
