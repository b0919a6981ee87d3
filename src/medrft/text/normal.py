"""From any text to the one spelling in which texts are compared (`normalize`), and to its tokens and sentences."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import takewhile

from medrft.text.signs import NEGATIVE, POSITIVE, name_greek, spell_signs

CACHED_LENGTH = 512
"""Results for longer strings are remembered only for the last few of them."""
MAX_LENGTH = 1 << 18
"""The most characters that `normalize` reads. A longer text is no answer, and must not hold up a training step."""

SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−⁃﹘﹣－", "-"),
        **dict.fromkeys("’‘‛ʼ′`´", "'"),
        **dict.fromkeys("“”„«»″", '"'),
        **{"×": "x", "✕": "x", "⁄": "/", "∕": "/", "≦": "≤", "≧": "≥", "œ": "oe", "æ": "ae", "ø": "o", "ł": "l"},
    }
)
MARKS = re.compile(
    "[\u0300-\u0337\u0339-\u036f]+"
)  # accents over Latin, Greek and Cyrillic letters; not the stroke of ≠, nor the vowels of Indic scripts
CJK = re.compile("([\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af])")
SIGNED = re.compile("(?<=[\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af]) (?=[⊕⊖])")
"""A space that `CJK` puts between a character and the sign of its result, to be removed again: 抗体+, 抗体-."""
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufe00-\ufe0f]")

STEMS = {
    **{"haem": "hem", "aemi": "emi", "oedem": "edem", "oesoph": "esoph", "oestr": "estr", "paed": "ped", "caec": "cec"},
    **{"faec": "fec", "foet": "fet", "aetio": "etio", "anaes": "anes", "gynae": "gyne", "naevus": "nevus"},
    **{"pnoea": "pnea", "rrhoea": "rrhea", "coelia": "celia", "homoeo": "homeo", "manoeuv": "maneuv", "sulph": "sulf"},
    **{"itonae": "itone", "perinae": "perine", "naevi": "nevi", "palaeo": "paleo", "artefact": "artifact"},
    **{"mould": "mold", "glycaem": "glycem", "caesar": "cesar", "synaes": "synes", "haemat": "hemat"},
}
BRITISH = re.compile("|".join(sorted(STEMS, key=len, reverse=True)))
OUR = re.compile(r"(tum|col|hum|lab|vap|behavi|fav|neighb|harb|rum|od)our")
RE = re.compile(r"(cent|met|lit|fib|tit|goit|calib|theat)re(s?)\b")
RED = re.compile(r"(cent|fib)red\b")
ISE = re.compile(
    r"(local|visual|general|character|hospital|normal|stabil|organ|minim|maxim|optim|recogn|special|lateral|catheter"
    r"|arterial|vascular|central|immun|neutral|crystall|metastas|real|canal|epithelial|mobil|util|ulcer|summar)"
    r"is(?=e\b|ed\b|es\b|ing\b|ation)"
)
YSE = re.compile(r"(anal|paral|dial|catal)ys(?=e\b|ed\b|es\b|ing\b)")
DOUBLE_L = re.compile(r"(label|channel|model|signal|tunnel)l(?=ed\b|ing\b)")
WORDS = {
    **{"grey": "gray", "greyish": "grayish", "programme": "program", "ageing": "aging", "disk": "disc"},
    **{"disks": "discs", "whilst": "while", "orientated": "oriented", "dilatation": "dilation", "x-rays": "x-ray"},
}

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight"),
    *("nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
)
NUMBERS = {word: str(n) for n, word in enumerate([*ONES, "seventeen", "eighteen", "nineteen"])}
TENS = {
    word: n for n, word in enumerate(["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 2)
}
ORDINALS = dict(
    zip(
        ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"],
        ["1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th", "9th", "10th"],
        strict=True,
    )
)
FORMS = {**WORDS, **NUMBERS, **ORDINALS}
"""Words that become another word or a number wherever they stand."""
ARTICLES = frozenset(("a", "an", "the"))
SPECIAL = ARTICLES.union(TENS)
"""Words of which the words beside them decide what becomes of them."""
LABELLED = frozenset(
    ["type", "hepatitis", "vitamin", "group", "influenza", "grade", "stage", "class", "option", "phase", "level"]
)
"""After one of these words `a` is a name and not an article: "type A", "hepatitis A"."""
JOINING = frozenset(("and", "or", "nor", "versus", "vs"))
COMPARING = frozenset("<>≤≥≠")
DECIMAL = re.compile(r"-?\d+\.\d+")

CYRILLIC = re.compile("[\u0400-\u04ff]")
LETTERS = re.compile(r"[^\W\d_]+")
LOOK_ALIKES = str.maketrans("авекмнорстухіјѕһԁ", "abekmhopctyxijshd")
"""Cyrillic letters that look like Latin ones."""

NOT = re.compile(r"(?<=[a-z])n't\b")
POSSESSIVE = re.compile(r"(?<=\w)'s\b")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
BARE_POINT = re.compile(r"(?<![^\s(<>≤≥=~])(-?)\.(?=\d)")
TIMES = re.compile(r"(?<=\d) ?x ?(?=\d)")
UNIT = re.compile(
    r"(?<=\d)(?=(?:mm|cm|um|nm|ml|dl|ul|l|cc|kg|mg|mcg|ug|hu|kv|mhz|hz|msv|gy|ms|tesla|[gt]|in|inch(?:es)?|years?|yo)\b)"
)
HYPHEN = re.compile(r"(?<=[a-z\d])-(?=[abdefh-u\dw-z])")
"""A hyphen that is no sign; before c, g or v it may be one ("T1-c", "T1-Gd", "ER-ve")."""
KEPT = re.compile(
    r"(?<=\d)([./^])(?=-?\d)|(?<![^\s(<>≤≥=~:,\[^±≠])(-)(?=\d)|([<>≤≥≠])(?= ?-?\d)"
    r"|(?<=[\w)%⊕⊖] )([<>≤≥≠])(?= [\w(])|(%)|(?<=\d)(?: \+ |\+)(?=\d)|(?<=\d)°(?! ?[cf]\b)"
)
"""Signs that are kept: those within numbers, before numbers, and between two things that they compare."""
PUNCTUATION = re.compile(r"[^\w\ue000-\ue009⊕⊖↑↓±]|_")
LONE_SIGNS = re.compile(r"[-+<>≤≥≠↑↓±^]")
HIDDEN = {
    ".": "\ue000",
    "/": "\ue001",
    "-": "\ue002",
    "<": " \ue003 ",
    ">": " \ue004 ",
    "≤": " \ue005 ",
    "≥": " \ue006 ",
    "≠": " \ue007 ",
    "^": "\ue008",
    "+": " \ue009 ",
    " + ": " \ue009 ",
    "%": " percent ",
    "°": " degrees ",
}
SHOWN = str.maketrans(
    {
        **{mark.strip(): sign.strip() for sign, mark in HIDDEN.items() if len(mark.strip()) == 1},
        POSITIVE: "+",
        NEGATIVE: "-",
        "↑": " ↑ ",
        "↓": " ↓ ",
        "±": " ± ",
    }
)
PRIVATE = re.compile("[\ue000-\ue009]")


def normalize(text: str) -> str:
    """Text as every comparison sees it: lower case, one spelling, no punctuation or articles, single spaces.

    Unicode is folded (NFKC, dashes, accents, invisible characters, Cyrillic look-alikes in Latin words), British words
    become American, number words digits, numbers and units stand apart, `n't` becomes `not`. Signs that carry meaning
    stay (`medrft.text.signs`): a decimal point, a minus, a comparison, the results + and -, arrows. An article stays if
    it may be a name (`type A`, `hepatitis A`, the option `A`, "A, C").

    >>> normalize("The  Left lung.")
    'left lung'
    >>> normalize("Oedema / haemorrhage in the grey matter"), normalize("8cm") == normalize("8 cm")
    ('edema hemorrhage in gray matter', True)
    >>> normalize("Twenty-two lesions, 3×4 CM; isn’t T2–weighted")
    '22 lesions 3 x 4 cm is not t2 weighted'
    >>> normalize("-100 HU, <5 mm, 1.5cm, .5 cm"), normalize("Type A"), normalize("a mass"), normalize("—")
    ('-100 hu < 5 mm 1.5 cm 0.5 cm', 'type a', 'mass', '')
    >>> normalize("HER2+ / ER-"), normalize("T1↑"), normalize("left > right"), normalize("10⁶"), normalize("A, C")
    ('her2+ er-', 't1 ↑', 'left > right', '10^6', 'a c')
    >>> normalize("1½ cm, 5,2 cm, 3 µm, 2.0, minus 15 HU"), normalize("1,500 mL")
    ('1.5 cm 5.2 cm 3 um 2 -15 hu', '1500 ml')
    """
    return _short(text) if len(text) <= CACHED_LENGTH else _long(text)


def _normalize(text: str) -> str:
    plain = _plain_words(text)
    if plain is not None:
        return " ".join(_words(plain))
    text = _normalize_once(text)
    # Repeated, so that a normalised text normalises to itself: in `a <_` the sign is lone only once the `_` is gone.
    for _ in range(3):
        if not LONE_SIGNS.search(text) or (again := _normalize_once(text)) == text:
            break
        text = again
    return text


def _plain_words(text: str) -> list[str] | None:
    """The respelt words of a short text of ASCII letters and digits only, with hyphens inside words; else `None`.

    Such a text holds none of the signs that `_normalize_once` looks for one after another, which takes five times as
    long. Most answers, and nearly all names of the clinical scorer's lexicon, are such texts.
    """
    if len(text) > CACHED_LENGTH or not text.isascii():
        return None
    lowered = text.lower()
    if "-" in lowered:
        lowered = HYPHEN.sub(" ", lowered)
    letters = lowered.replace(" ", "")
    if not letters.isalnum() or "minus" in lowered:
        return None
    if letters.isalpha():
        return list(map(_respelt, lowered.split()))
    lowered = " ".join(map(_respelt, lowered.split()))
    return None if TIMES.search(lowered) else UNIT.sub(" ", lowered).split()


def _normalize_once(text: str) -> str:
    text = _american(name_greek(fold_case(spell_signs(text[:MAX_LENGTH]))))
    text = NOT.sub(" not", text.replace("can't", "cannot").replace("won't", "will not"))
    text = POSSESSIVE.sub("", text).replace("'", "")
    text = BARE_POINT.sub(r"\g<1>0.", THOUSANDS.sub("", text))
    text = PUNCTUATION.sub(" ", KEPT.sub(lambda match: HIDDEN[match[0]], text))
    text = UNIT.sub(" ", TIMES.sub(" x ", " ".join(text.split())))
    return " ".join(_words(text.translate(SHOWN).split()))


_short = lru_cache(maxsize=65_536)(_normalize)
_long = lru_cache(maxsize=16)(_normalize)  # the scorers of one reward ask for the same text one after another


def fold_case(text: str) -> str:
    """Lower case and one form of each character."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(SYMBOLS)
    text = PRIVATE.sub(" ", INVISIBLE.sub("", text))
    text = MARKS.sub("", unicodedata.normalize("NFD", text))
    if CYRILLIC.search(text):
        text = LETTERS.sub(_one_script, text)
    return SIGNED.sub("", CJK.sub(r" \1 ", unicodedata.normalize("NFC", text)))


def _one_script(word: re.Match[str]) -> str:
    """A word that mixes Latin letters and Cyrillic look-alikes, in Latin letters; a Cyrillic word as it is."""
    latin = word[0].translate(LOOK_ALIKES)
    return latin if latin.isascii() and any(letter.isascii() for letter in word[0]) else word[0]


def _american(text: str) -> str:
    """American spelling. Short texts go word by word, because words repeat, and the cache then knows most of them."""
    return " ".join(map(_respelt, text.split(" "))) if len(text) <= CACHED_LENGTH else _respell(text)


def _respell(text: str) -> str:
    text = BRITISH.sub(lambda match: STEMS[match[0]], text)
    text = RED.sub(r"\1ered", RE.sub(r"\1er\2", OUR.sub(r"\1or", text)))
    return DOUBLE_L.sub(r"\1", YSE.sub(r"\1yz", ISE.sub(r"\1iz", text)))


_respelt = lru_cache(maxsize=65_536)(_respell)


def _words(words: list[str]) -> list[str]:
    """The words with numbers as digits, a few words respelt, and articles dropped unless they are last or a name."""
    if SPECIAL.isdisjoint(words):
        return [FORMS.get(word) or (_shortest(word) if "." in word else word) for word in words]
    kept: list[str] = []
    position, last = 0, len(words) - 1
    while position <= last:
        word = words[position]
        if word in ARTICLES and position < last and not _is_name(words, position, kept):
            position += 1
            continue
        if word in TENS:
            unit = NUMBERS.get(words[position + 1], "") if position < last else ""
            compound = len(unit) == 1 and unit != "0"
            kept.append(str(TENS[word]) + (unit if compound else "0"))
            position += 1 + compound
            continue
        kept.append(FORMS.get(word) or (_shortest(word) if "." in word else word))
        position += 1
    return kept


def _is_name(words: list[str], position: int, kept: list[str]) -> bool:
    """Whether an article is a name: "type A", "A and C", "A > B", or "A, C" (single letters and no noun after them)."""
    after = words[position + 1]
    if after in COMPARING:
        return True
    if words[position] != "a":
        return False
    if (kept and kept[-1] in LABELLED) or after in JOINING:
        return True
    letters = list(
        takewhile(lambda word: len(word) == 1 and word.isalpha() and word.isascii(), words[position + 1 : position + 9])
    )
    further = words[position + 1 + len(letters) : position + 2 + len(letters)]
    return bool(letters) and (not further or further[0] in JOINING)


def _shortest(word: str) -> str:
    """A decimal number without the zeros at its end: 2.0 becomes 2."""
    return word.rstrip("0").rstrip(".") if DECIMAL.fullmatch(word) else word


def tokens(text: str) -> list[str]:
    """Words of the normalised text; each Chinese, Japanese or Korean character is a token.

    >>> tokens("No evidence of a pneumothorax."), tokens("左肺")
    (['no', 'evidence', 'of', 'pneumothorax'], ['左', '肺'])
    """
    return normalize(text).split()


PLACEHOLDERS = frozenset(
    (
        *(
            "answer",
            "your answer",
            "answer here",
            "your answer here",
            "final answer",
            "my answer",
            "insert answer here",
        ),
        *("insert answer", "answer goes here", "placeholder", "n a", "na", "tbd", "todo", "null", "nan", "undefined"),
        *("lorem ipsum", "xxx", "answer text", "short answer", "correct answer", "answer in words"),
    )
)


def is_placeholder(text: str) -> bool:
    """Whether a text only fills the place of an answer, such as the prompt's own words, "N/A" or a tag.

    >>> is_placeholder("[Your answer]"), is_placeholder("N/A"), is_placeholder("none"), is_placeholder("the answer")
    (True, True, False, True)
    """
    return len(text) <= CACHED_LENGTH and normalize(text) in PLACEHOLDERS


def for_model(text: str, *, limit: int) -> str:
    """Text that any tokenizer takes: trimmed, at most `limit` characters, lone surrogates replaced.

    >>> for_model(" left lung ", limit=6), for_model("\\ud800", limit=9)
    ('left l', '?')
    """
    return whole_characters(text.strip()[:limit])


def whole_characters(text: str) -> str:
    """Text that can be encoded as UTF-8: lone halves of surrogate pairs, which a server may send, become "?".

    >>> whole_characters("left \\ud800 lung")
    'left ? lung'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


SENTENCE_END = re.compile(r"[.!?。！？](?=[\s\"')\]]|$)|[。！？]|\n+")


def sentences(text: str) -> int:
    """The number of sentences in a text, not counting those without a letter or digit.

    >>> sentences("A 1.5 cm nodule. No effusion!"), sentences("opacity"), sentences("... ")
    (2, 1, 0)
    """
    return sum(any(letter.isalnum() for letter in part) for part in SENTENCE_END.split(text))
