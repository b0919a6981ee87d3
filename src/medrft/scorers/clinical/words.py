"""From a text to lower-case tokens with marks for its punctuation, and from a word to its lemma, stem or likeness."""

from __future__ import annotations

import re
from functools import lru_cache

from medrft.text import normalize
from medrft.text.normal import ARTICLES, JOINING, LABELLED, TENS
from medrft.text.signs import spell_signs

COMMA, STOP, SLASH, COLON = "xxcomma", "xxstop", "xxslash", "xxcolon"
"""Words that stand for punctuation, because normalisation would drop it; no real text contains them."""
PAUSES = frozenset((COMMA, COLON))
MAX_CHARACTERS = 16_000
"""The first so many characters are read; so even an answer of a megabyte takes less than a second."""

SENTENCE = re.compile(r"(?<!\d)\.(?=\s|$)(?!(?<=\b[A-Z]\.)\s[a-z])|(?<=\d)\.(?=\s+[A-Za-z]|\s*$)|[;!?\n\r。;!?]+")
NAMED = re.compile(r"(?<![\w'])a(?= ?[,;/&] ?[b-z](?![\w'-]))", re.IGNORECASE)
"""The letter A in a list of letters ("A, C"), where it is no article."""
LETTER_A = "xxa"
SIGNED = {"c+": ["with", "contrast"], "c-": ["without", "contrast"], "↑": ["increased"], "↓": ["decreased"], "±": []}
RANGE = re.compile(r"(?<![\w.,-])(\d{1,6}(?:\.\d{1,6})?) ?[-–—] ?(?=\d{1,6}(?:\.\d{1,6})?(?![\w-]*-\d))")
PERIOD = "(?:minutes?|hours?|days?|weeks?|months?|years?)"
NUMERAL = r"(?:\d{1,6}(?:\.\d{1,6})?|(?:one|two|three|four|five|six|seven|eight|nine|ten)\b)"
OR_MORE = re.compile(
    rf"(?<![\w.,<>≤≥-])({NUMERAL}(?: ?(?:mm|cm|ml|hu|years?|%))?) (?:or|and) "
    r"(?:(more|greater|larger|above|over|older)|(?:less|smaller|fewer|below|under|younger))\b(?! than)",
    re.IGNORECASE,
)
OVER = re.compile(
    r"\b(?:(over|above)|(?:under|below)) (?=\d{1,6}(?:\.\d{1,6})? ?(?:mm|cm|ml|hu|years?|%))", re.IGNORECASE
)
LIMIT = re.compile(
    r"\b(?:(at least|(?:no|not) (?:less|fewer) than|a minimum of)|(?:at most|(?:no|not) more than|a maximum of)) "
    rf"(?={NUMERAL})",
    re.IGNORECASE,
)
"""Bounds in words, which become signs: "5 mm or more", "under 5 mm", "no more than three"."""
COUNTED = re.compile(
    rf"(?<![-\d] )\b(day|week|month|year|hour|minute) (\d{{1,4}})\b(?! ?(?:to|-|/|{PERIOD}))", re.IGNORECASE
)
"""A time by its number, which becomes a length: "day 3", "week 20"."""
BOUNDED = re.compile(r"(?i) or | and | than |t (?:least|most) | (?:min|max)imum of ")
"""A cheap look for words that a bound is said with."""
RESULTS = {"+": "positive", "-": "negative"}
COMPARING = frozenset("<>≤≥≠")
PAUSE = re.compile(r",(?!\d{3}(?!\d))|[()\[\]、，]|\s[-–—]+\s")
PUNCTUATED = re.compile(r"[^\w '/]")
GESTATION = re.compile(
    r"(?<![\w.])(\d{1,2}) ?(?:(?:w|wks?|weeks?) ?(?:and |, ?)?(\d) ?(?:d|days?)\b|\+ ?(\d) ?(?:w|wks?|weeks?)\b)",
    re.IGNORECASE,
)
"""Weeks and days of a pregnancy: "22w3d", "22 weeks 3 days", "22+3 weeks"."""
DIGIT = re.compile(r"\d")
RATE = re.compile(r"(?<=\d) ?(?:/ ?min(?:ute)?|(?:beats )?(?:per|a|each) min(?:ute)?|beats/min)\b", re.IGNORECASE)
PER_CENT = re.compile(r"(?<=\d) per cent\b", re.IGNORECASE)
TIMES = re.compile(r"(?<=[a-z]) ?[x×] ?(?=\d{1,2}\b(?! ?(?:[x×]|[mc]m\b)))", re.IGNORECASE)
"""How many there are, behind what they are: "nodules x2"."""
HEAVIER = re.compile(r"\b(?:(?:R|right) ?> ?(?:L|left)|(?:L|left) ?< ?(?:R|right))\b", re.IGNORECASE)
LIGHTER = re.compile(r"\b(?:(?:R|right) ?< ?(?:L|left)|(?:L|left) ?> ?(?:R|right))\b", re.IGNORECASE)
"""Which side has more of a thing: "R > L"."""
QUERY = re.compile(r"(?<![^\s(])\?\s?(?=[A-Za-z])")
"""A doubt as notes write it: "?pneumonia"."""
HOURS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
CLOCK = re.compile(
    rf"\b(\d{{1,2}}|{'|'.join(HOURS)})(?:(?::\d\d)? ?o ?['’]? ?clock|:[0-5]\d(?= ?(?:position|axis|radian)))\b",
    re.IGNORECASE,
)
LONE = re.compile(r"\(?[a-z]{2,}(?:-[abdefh-uw-z][a-z]+)*\)?[.,;:!?]?|[a-z]|[a-vyz][a-z]*\d+,?|\d+,?|\d+\.\d+")
"""A word that becomes the same tokens whatever stands beside it, unless one of `NUMBER_WORDS` does."""
PARTS = re.compile("[a-z]+")
NUMBER_WORDS = frozenset(
    (
        *("more", "greater", "larger", "above", "over", "older", "less", "smaller", "fewer", "below", "under"),
        *(
            "younger",
            "least",
            "most",
            "minimum",
            "maximum",
            "day",
            "week",
            "month",
            "year",
            "hour",
            "minute",
            "w",
            "wk",
            "wks",
        ),
        *("per", "x", "o", "clock", "oclock"),
    )
)
"""Words that change what becomes of a number in the text, by one of the patterns above."""
CONTEXT = ARTICLES | NUMBER_WORDS
DENIED_NO_LONGER = re.compile(
    r"\b(no|without|not|free of|free from|negative for)\b((?:(?!\ban?\b)[^.;:!?\n]){2,80}?)"
    r"(?:,? (?:plus|along with|together with|alongside)(?: an?)?|(?:,? and|, with|,) (?:an?|another)) "
    r"(?![^.;:!?\n]*\bor\b)",
    re.IGNORECASE,
)
"""A negation, and what begins a thing that it does not deny: "no edema, and a mass", "without edema plus ulcers"."""
BEGINNING = (" a ", " an ", " another ", " plus ", " along", " together ")
"""Without one of them, nothing begins so."""
PUSHING = re.compile(r"\b(?:which |that )?(?:displac|push)(?:es|ing)\b", re.IGNORECASE)
"""What one thing does to another is a finding of its own: "mass displacing the trachea"."""
AS_BEFORE = re.compile(
    r"\bas (\w+) as (?:before|previously|(?:it|they) (?:was|were)|(?:on|in|at) (?:the |that |its )?"
    r"(?:earlier|previous|prior|last|former|old|preceding))\b",
    re.IGNORECASE,
)
OBLIQUE = re.compile(r"(?<=[A-Za-z])\s?/\s?(?=[A-Za-z])")
SPELLED = {
    "w/o": "without",
    "s/p": "status post",
    "b/l": "bilateral",
    "h/o": "history of",
    "c/w": "consistent with",
    "c/d": "cup to disc",
}
SHORTHAND = re.compile(rf"\b(?:{'|'.join(SPELLED)})\b", re.IGNORECASE)
WITH = re.compile(r"\bw/(?=\s|[a-z])", re.IGNORECASE)

PLURALS = {
    **{"bronchi": "bronchus", "sulci": "sulcus", "gyri": "gyrus", "foci": "focus", "loci": "locus", "rami": "ramus"},
    **{"nuclei": "nucleus", "calculi": "calculus", "thrombi": "thrombus", "emboli": "embolus", "villi": "villus"},
    **{"thalami": "thalamus", "hippocampi": "hippocampus", "menisci": "meniscus", "humeri": "humerus", "tali": "talus"},
    **{
        "hili": "hilum",
        "hila": "hilum",
        "hilus": "hilum",
        "diverticula": "diverticulum",
        "diverticuli": "diverticulum",
    },
    **{"atria": "atrium", "septa": "septum", "ganglia": "ganglion", "foramina": "foramen", "phalanges": "phalanx"},
    **{"apices": "apex", "cortices": "cortex", "calyces": "calyx", "calices": "calyx", "varices": "varix"},
    **{"appendices": "appendix", "vertebrae": "vertebra", "feet": "foot", "teeth": "tooth", "women": "woman"},
    **{"men": "man", "children": "child", "metastases": "metastasis", "testes": "testis", "pelves": "pelvis"},
    **{"meninges": "meninx", "femora": "femur", "bullae": "bulla", "pleurae": "pleura", "fossae": "fossa"},
    **{"stenoses": "stenosis", "thromboses": "thrombosis", "prostheses": "prosthesis", "diagnoses": "diagnosis"},
    **{"exostoses": "exostosis", "anastomoses": "anastomosis", "pneumothoraces": "pneumothorax", "radii": "radius"},
    **{"bacteria": "bacterium", "fungi": "fungus", "viruses": "virus", "sinuses": "sinus", "fetuses": "fetus"},
    **{"uteri": "uterus", "alveoli": "alveolus", "bronchioli": "bronchiole", "fistulae": "fistula", "bursae": "bursa"},
    **{"bases": "base", "aches": "ache", "headaches": "headache", "lenses": "lens", "crises": "crisis"},
    **{"scapulae": "scapula", "maxillae": "maxilla", "tibiae": "tibia", "aortae": "aorta", "papillae": "papilla"},
    **{"aneurisms": "aneurysm", "aneurism": "aneurysm", "xrays": "xray", "indices": "index", "corpora": "corpus"},
    **{"always": "always", "series": "series", "perhaps": "perhaps", "besides": "besides", "status": "status"},
    **{"necroses": "necrosis", "fibroses": "fibrosis", "atelectases": "atelectasis", "lungs": "lung", "ribs": "rib"},
}
SUFFIXES = (
    *("izations", "ization", "ications", "ication", "ations", "ation", "ating", "ated", "ative", "ates", "ate"),
    *("ements", "ement", "ments", "ment", "nesses", "ness", "ities", "ity", "ically", "ally", "ively", "ously", "ly"),
    *("ions", "ion", "ing", "ies", "ied", "ives", "ive", "ous", "ical", "ial", "ual", "al", "ic", "ed", "es", "ent"),
    *("ence", "ency", "ance", "ancy", "ant", "able", "ible", "er", "or", "y", "e", "s"),
)


def cut_tokens(text: str) -> list[str]:
    """The tokens of a text, normalised by `medrft.text`, with stand-ins for its punctuation.

    >>> cut_tokens("Mass, 2.5 cm. No viral/bacterial infection")
    ['mass', 'xxcomma', '2.5', 'cm', 'xxstop', 'no', 'viral', 'xxslash', 'bacterial', 'infection']
    """
    text = text[:MAX_CHARACTERS]
    if any(word in text for word in BEGINNING):
        text = DENIED_NO_LONGER.sub(r"\1\2: ", text)
    if " as " in text:
        text = AS_BEFORE.sub(r"\1, unchanged", text)
    if "displac" in text or "push" in text:
        text = PUSHING.sub("with displaced", text)
    tokens = _cut_words(text) if text.isascii() and text.isprintable() else None
    return _cut(text) if tokens is None else tokens


def _cut_words(text: str) -> list[str] | None:
    """The tokens of an ASCII text word by word, as most texts can be cut; `None` where words decide on one another.

    The same as `_cut`, in a third of the time, because words recur.
    """
    tokens: list[str] = []
    for word in text.lower().split():
        alone = _cut_word(word)
        if alone is None:
            return None
        tokens += alone
    if CONTEXT.isdisjoint(tokens):
        return tokens
    if not NUMBER_WORDS.isdisjoint(tokens) and any(token[-1].isdigit() or token[0].isdigit() for token in tokens):
        return None
    return tokens if ARTICLES.isdisjoint(tokens) else _without_articles(tokens)


def _without_articles(tokens: list[str]) -> list[str] | None:
    """The tokens without articles, but for one at the end; `None` if an "a" may be a name ("type A", "A and C")."""
    kept: list[str] = []
    last = len(tokens) - 1
    for place, token in enumerate(tokens):
        if token not in ARTICLES or place == last:
            kept.append(token)
        elif token == "a":
            after = tokens[place + 1]
            if after in JOINING or (len(after) == 1 and after.isalpha()) or (kept and kept[-1] in LABELLED):
                return None
    return kept


@lru_cache(maxsize=65_536)
def _cut_word(word: str) -> tuple[str, ...] | None:
    """The tokens of a word in lower case; `None` if they depend on its neighbours."""
    if not LONE.fullmatch(word) or "minus" in word or LETTER_A in word:
        return None
    if not TENS.keys().isdisjoint(PARTS.findall(word)):  # "twenty", which a number may follow
        return None
    tokens = tuple(_cut(word))
    return None if "-" in word and tokens[-1] in ARTICLES else tokens


def _cut(text: str) -> list[str]:
    """The tokens of any text."""
    letters = text.replace(" ", "") if text.isascii() else ""
    if letters.isalnum() and "minus" not in text.lower():  # no sign and no punctuation: most answers
        text = _spell_bounds(text)
        text = text if letters.isalpha() else _spell_numbers(text)
    else:
        text = _spell_out(text)
    words = normalize(text).split()
    if text.isascii() and LETTER_A not in text and "<" not in text and ">" not in text:
        return list(map(lemma, words))
    return [part for place, word in enumerate(words) for part in _spoken(word, words[place + 1 : place + 2])]


def _spell_out(text: str) -> str:
    """The text with its signs, bounds, shorthand and punctuation in words."""
    if "<" in text or ">" in text:
        text = LIGHTER.sub("left greater than right", HEAVIER.sub("right greater than left", text))
    text = spell_signs(QUERY.sub(" possible ", text) if "?" in text else text)
    if "," in text or ";" in text or "/" in text or "&" in text:
        text = NAMED.sub(LETTER_A, text)
    text = _spell_bounds(text)
    if DIGIT.search(text) or "clock" in text:
        text = _spell_numbers(text)
    if "/" in text:
        text = SHORTHAND.sub(lambda match: f" {SPELLED[match[0].lower()]} ", text)
        text = OBLIQUE.sub(f" {SLASH} ", WITH.sub(" with ", text))
    if PUNCTUATED.search(text):
        text = PAUSE.sub(f" {COMMA} ", SENTENCE.sub(f" {STOP} ", text))
        text = text.replace(":", f" {COLON} ")
    return text


def _spell_bounds(text: str) -> str:
    """The text with "or more", "no less than" and the like as signs."""
    if not BOUNDED.search(text):
        return text
    text = OR_MORE.sub(lambda match: f"{'≥' if match[2] else '≤'} {match[1]}", text)
    return LIMIT.sub(lambda match: "≥ " if match[1] else "≤ ", text)


def _spell_numbers(text: str) -> str:
    """The text with ranges and bounds of numbers, rates, weeks of a pregnancy and clock positions in words."""
    # A look for its words first, because each of these patterns is slow where it finds nothing.
    lowered = text.lower()
    if "-" in text or "–" in text or "—" in text:
        text = RANGE.sub(r"\1 to ", text)
    if any(word in lowered for word in ("day ", "week ", "month ", "year ", "hour ", "minute ")):
        text = COUNTED.sub(r"\2 \1", text)
    if any(word in lowered for word in ("over ", "above ", "under ", "below ")):
        text = OVER.sub(lambda match: "> " if match[1] else "< ", text)
    if "w" in lowered:
        text = GESTATION.sub(lambda match: f"{7 * int(match[1]) + int(match[2] or match[3])} gestday", text)
    if "min" in lowered:
        text = RATE.sub(" bpm", text)
    if "cent" in lowered:
        text = PER_CENT.sub(" percent", text)
    if "x" in lowered or "×" in text:
        text = TIMES.sub(" ", text)
    return CLOCK.sub(r"clock \1", text) if "clock" in lowered or ":" in text else text


def _spoken(word: str, after: list[str]) -> list[str]:
    """A word with its sign in words: "her2+" is "her2 positive". Signs between words are left to `relations`."""
    if word in SIGNED:
        return SIGNED[word]
    if word == LETTER_A:
        return ["a"]
    if word in COMPARING:
        return [word] if word != "≠" and after and after[0].lstrip("-")[:1].isdigit() else []
    if word[-1] in RESULTS and any(letter.isalpha() for letter in word):
        return [lemma(word.rstrip("+-")), RESULTS[word[-1]]]
    return [lemma(word)]


@lru_cache(maxsize=65_536)
def lemma(word: str) -> str:
    """The singular of an English or Latin plural; other words as they are. Used for the lexicon and for texts alike.

    >>> [lemma(word) for word in ("masses", "opacities", "vertebrae", "pelvis", "nodules", "gas")]
    ['mass', 'opacity', 'vertebra', 'pelvis', 'nodule', 'gas']
    """
    if word in PLURALS:
        return PLURALS[word]
    if len(word) < 4 or word[-1] != "s":
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A word without its derivational ending; at least five letters stay.

    >>> stem("calcification") == stem("calcified"), stem("perforating") == stem("perforation")
    (True, True)
    """
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 5:
            word = word[: -len(suffix)]
            break
    return word[:-1] if len(word) > 5 and word[-1] == word[-2] else word


def one_letter_deletions(word: str) -> list[str]:
    """A word, and all that is left of it without one letter: two words that share one of these are one slip apart."""
    return [word, *(word[:i] + word[i + 1 :] for i in range(len(word)))]


@lru_cache(maxsize=65_536)
def trigrams(word: str) -> frozenset[str]:
    """Character trigrams of a word, with its beginning and end marked."""
    marked = f"^{word}$"
    return frozenset(marked[i : i + 3] for i in range(len(marked) - 2))


@lru_cache(maxsize=65_536)  # the words of two texts are compared each with each, several times over
def word_likeness(left: str, right: str) -> float:
    """How alike two words look, in [0, 1]: 1 for the same stem, else Dice over trigrams.

    >>> word_likeness("nodular", "nodularity") > 0.6, word_likeness("femur", "tibia")
    (True, 0.0)
    """
    if left == right or (len(left) > 5 and len(right) > 5 and stem(left) == stem(right)):
        return 1.0
    a, b = trigrams(left), trigrams(right)
    return 2 * len(a & b) / (len(a) + len(b))
