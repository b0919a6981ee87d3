"""The one place where text is cleaned: normalisation, tokens, answer extraction, yes/no and kinds.

Everything that compares text (scorers, rewards, metrics, audit) goes through this module, so the doctests here are
the specification. All functions take time linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from medrft.types import Form, Kind

CACHED_LENGTH = 512
"""Of longer strings only the last few are remembered."""
MAX_LENGTH = 1 << 18
"""Characters that `normalize` reads; a longer text is no answer, and must not hold up a training step."""

SYMBOLS = str.maketrans(
    {
        **dict.fromkeys("‐‑‒–—―−⁃﹘﹣－", "-"),
        **dict.fromkeys("’‘‛ʼ′`´", "'"),
        **dict.fromkeys("“”„«»″", '"'),
        **{"×": "x", "✕": "x", "⁄": "/", "∕": "/", "≦": "≤", "≧": "≥", "œ": "oe", "æ": "ae", "ø": "o", "ł": "l"},
    }
)
MARKS = re.compile(
    "[\u0300-\u036f]+"
)  # accents over Latin, Greek and Cyrillic letters; not the vowels of Indic scripts
CJK = re.compile("([\u3400-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af])")
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
ARTICLES = frozenset(("a", "an", "the"))
LABELLED = frozenset(
    ["type", "hepatitis", "vitamin", "group", "influenza", "grade", "stage", "class", "option", "phase", "level"]
)
"""Words after which `a` is a name and not an article."""

CYRILLIC = re.compile("[\u0400-\u04ff]")
LETTERS = re.compile(r"[^\W\d_]+")
LOOK_ALIKES = str.maketrans("авекмнорстухіјѕһԁ", "abekmhopctyxijshd")
"""Cyrillic letters that look like Latin ones."""

NOT = re.compile(r"(?<=[a-z])n't\b")
POSSESSIVE = re.compile(r"(?<=\w)'s\b")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
BARE_POINT = re.compile(r"(?<![^\s(<>≤≥=~])(-?)\.(?=\d)")
TIMES = re.compile(r"(?<=\d) ?x ?(?=\d)")
UNIT = re.compile(r"(?<=\d)(?=(?:mm|cm|ml|cc|kg|mg|mcg|hu|kv|mhz|tesla|[gt]|in|inch(?:es)?|years?|yo)\b)")
KEPT = re.compile(r"(?<=\d)([./])(?=\d)|(?<![^\s(<>≤≥=~])(-)(?=\d)|([<>≤≥])(?= ?-?\d)|(%)")
PUNCTUATION = re.compile(r"[^\w\ue000-\ue006]|_")
HIDDEN = {
    ".": "\ue000",
    "/": "\ue001",
    "-": "\ue002",
    "<": " \ue003 ",
    ">": " \ue004 ",
    "≤": " \ue005 ",
    "≥": " \ue006 ",
}
SHOWN = str.maketrans({mark.strip(): sign for sign, mark in HIDDEN.items()})
PRIVATE = re.compile("[\ue000-\ue006]")


def normalize(text: str) -> str:
    """Text as every comparison sees it: lower case, one spelling, no punctuation or articles, single spaces.

    Unicode is folded (NFKC, dashes, accents, invisible characters, Cyrillic look-alikes in Latin words), British words
    become American, number words digits, numbers and units stand apart, `n't` becomes `not`. Signs that carry meaning
    stay: a decimal point, a minus, `<` and `>` before a number. An article stays where it may be a name (`type A`,
    `hepatitis A`, the option `A`).

    >>> normalize("The  Left lung.")
    'left lung'
    >>> normalize("Oedema / haemorrhage in the grey matter"), normalize("8cm") == normalize("8 cm")
    ('edema hemorrhage in gray matter', True)
    >>> normalize("Twenty-two lesions, 3×4 CM; isn’t T2–weighted")
    '22 lesions 3 x 4 cm is not t2 weighted'
    >>> normalize("-100 HU, <5 mm, 1.5cm, .5 cm"), normalize("Type A"), normalize("a mass"), normalize("—")
    ('-100 hu < 5 mm 1.5 cm 0.5 cm', 'type a', 'mass', '')
    """
    return _short(text) if len(text) <= CACHED_LENGTH else _long(text)


def _normalize(text: str) -> str:
    text = _american(_fold(text[:MAX_LENGTH]))
    text = NOT.sub(" not", text.replace("can't", "cannot").replace("won't", "will not"))
    text = POSSESSIVE.sub("", text).replace("'", "")
    text = BARE_POINT.sub(r"\g<1>0.", THOUSANDS.sub("", text))
    text = PUNCTUATION.sub(" ", KEPT.sub(lambda match: HIDDEN.get(match[0], " percent "), text))
    text = UNIT.sub(" ", TIMES.sub(" x ", " ".join(text.split())))
    return " ".join(_words(text.translate(SHOWN).split()))


_short = lru_cache(maxsize=65_536)(_normalize)
_long = lru_cache(maxsize=16)(_normalize)  # the scorers of one reward ask for the same text one after another


def _fold(text: str) -> str:
    """Lower case and one form of each character."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(SYMBOLS)
    text = PRIVATE.sub(" ", INVISIBLE.sub("", text))
    text = MARKS.sub("", unicodedata.normalize("NFD", text))
    if CYRILLIC.search(text):
        text = LETTERS.sub(_one_script, text)
    return CJK.sub(r" \1 ", unicodedata.normalize("NFC", text))


def _one_script(word: re.Match[str]) -> str:
    """A Latin word with look-alikes in it, in Latin letters; a Cyrillic word as it is."""
    latin = word[0].translate(LOOK_ALIKES)
    return latin if latin.isascii() and any(letter.isascii() for letter in word[0]) else word[0]


def _american(text: str) -> str:
    """American spelling; short texts word by word, because words come again and again where texts do not."""
    return " ".join(map(_respelt, text.split(" "))) if len(text) <= CACHED_LENGTH else _respell(text)


def _respell(text: str) -> str:
    text = BRITISH.sub(lambda match: STEMS[match[0]], text)
    text = RED.sub(r"\1ered", RE.sub(r"\1er\2", OUR.sub(r"\1or", text)))
    return DOUBLE_L.sub(r"\1", YSE.sub(r"\1yz", ISE.sub(r"\1iz", text)))


_respelt = lru_cache(maxsize=65_536)(_respell)


def _words(words: list[str]) -> list[str]:
    """Number words as digits, single words respelt, articles dropped before another word."""
    kept: list[str] = []
    position, last = 0, len(words) - 1
    while position <= last:
        word = words[position]
        if word in ARTICLES and position < last and not (word == "a" and kept and kept[-1] in LABELLED):
            position += 1
            continue
        if word in TENS:
            unit = NUMBERS.get(words[position + 1], "") if position < last else ""
            compound = len(unit) == 1 and unit != "0"
            kept.append(str(TENS[word]) + (unit if compound else "0"))
            position += 1 + compound
            continue
        word = WORDS.get(word, word)
        kept.append(NUMBERS.get(word) or ORDINALS.get(word) or word)
        position += 1
    return kept


def tokens(text: str) -> list[str]:
    """Words of the normalised text; each Chinese, Japanese or Korean character is a token.

    >>> tokens("No evidence of a pneumothorax."), tokens("左肺")
    (['no', 'evidence', 'of', 'pneumothorax'], ['左', '肺'])
    """
    return normalize(text).split()


class Extracted(NamedTuple):
    """What a completion says in its prompt's form."""

    answer: str | None
    """Stripped text of the answer; `None` when there is not exactly one."""
    thinking: str | None = None
    well_formed: bool = False
    """The completion is the form and nothing else: what `answer_format` pays for."""


TAGS = re.compile(r"</?(?:think|answer)>")
WHOLE = (["<think>", "</think>", "<answer>", "</answer>"], ["</think>", "<answer>", "</answer>"])


def extract(completion: str, form: Form) -> Extracted:
    """The answer of a completion: the text of its one `<answer>` block, or for `short` the whole stripped text.

    Ambiguity earns nothing. There must be one `<answer>` and one `</answer>`, in order, and, where the completion
    holds a thought, after its end. Tags are literal (lower case, no spaces). The form is complete (`well_formed`) when
    nothing but white space stands around its blocks and neither is empty.

    >>> extract("<think>Air on the right.</think> <answer> yes </answer>", "think")
    Extracted(answer='yes', thinking='Air on the right.', well_formed=True)

    A template may open the thought in the prompt; then the completion begins inside it.

    >>> extract("Air on the right.</think><answer>yes</answer>", "think")
    Extracted(answer='yes', thinking='Air on the right.', well_formed=True)

    Text around the blocks, or no thought, costs the form and not the answer.

    >>> extract("<think>Air.</think><answer>yes</answer> I think", "think")
    Extracted(answer='yes', thinking='Air.', well_formed=False)
    >>> extract("<answer>yes</answer>", "think"), extract("<answer>yes</answer>", "direct").well_formed
    (Extracted(answer='yes', thinking=None, well_formed=False), True)

    Repeated, nested, unclosed or empty blocks, and an answer inside the thought, are no answer.

    >>> bad = ["<answer>yes</answer><answer>no</answer>", "<answer><answer>yes</answer></answer>", "<answer>yes", "yes"]
    >>> bad += ["<answer> </answer>", "<think><answer>yes</answer></think>", "<think><answer>yes</answer>"]
    >>> [extract(completion, "think").answer for completion in bad]
    [None, None, None, None, None, None, None]
    >>> extract("Yes.\\n", "short"), extract(" ", "short").answer
    (Extracted(answer='Yes.', thinking=None, well_formed=True), None)
    """
    if form == "short":
        answer = completion.strip()
        return Extracted(answer or None, None, bool(answer))
    found = list(TAGS.finditer(completion))
    names = [match[0] for match in found]
    thinking, end_of_thought = _thought(completion, found)
    if names.count("<answer>") != 1 or names.count("</answer>") != 1:
        return Extracted(None, thinking)
    opened, closed = found[names.index("<answer>")], found[names.index("</answer>")]
    answer = completion[opened.end() : closed.start()].strip() if opened.end() <= closed.start() else ""
    inside = "think>" in completion and (end_of_thought is None or opened.start() < end_of_thought)
    if not answer or (inside and any("think" in name for name in names)):
        return Extracted(None, thinking)
    before, after = completion[: opened.start()], completion[closed.end() :]
    if form == "direct":
        return Extracted(answer, thinking, names == ["<answer>", "</answer>"] and not (before + after).strip())
    whole = names in WHOLE and bool(thinking) and not after.strip()
    bare = whole and not (completion[: found[0].start()] * (len(names) == 4) + before[end_of_thought:]).strip()
    return Extracted(answer, thinking, bare)


def _thought(completion: str, found: list[re.Match[str]]) -> tuple[str | None, int | None]:
    """The thought's text and where it ends; the last `</think>` ends it, and an unclosed thought has no end."""
    begins = [match.end() for match in found if match[0] == "<think>"]
    ends = [match for match in found if match[0] == "</think>"]
    if not ends:
        return (completion[begins[0] :].strip(), None) if begins else (None, None)
    start = begins[0] if begins and begins[0] <= ends[-1].start() else 0
    return completion[start : ends[-1].start()].strip(), ends[-1].end()


YES = frozenset(["yes", "yeah", "yep", "是", "是的", "有", "存在", "包含", "包括", "可以", "对"])
NO = frozenset(
    ["no", "nope", "否", "不是", "没有", "不存在", "不包含", "不包括", "不可以", "不", "无", "不对", "不能", "没"]
)
CLAUSE = re.compile(r"[.,;:!?。,、;:!?/\n]+|\b(?:or|and|but|then)\b|-{1,}(?= )|[—–]")
MAX_YES_NO = 4_096
"""Longer texts are sentences, not a yes or a no; only this much of their beginning is read."""


def yes_no(text: str) -> Literal["yes", "no"] | None:
    """Whether a text says yes or no by that word: it leads, or stands as a clause of its own. Both or neither: `None`.

    A sentence whose polarity must be *understood* ("There is no fracture") is the clinical scorer's business.

    >>> [yes_no(text) for text in ("Yes.", "NO", "Yes, there is no fracture", "No pneumothorax", "The answer is: no")]
    ['yes', 'no', 'yes', 'no', 'no']
    >>> [yes_no(text) for text in ("yes or no", "Yes. No.", "no, yes", "normal", "There is no fracture", "")]
    [None, None, None, None, None, None]
    >>> yes_no("不是"), yes_no("是的。")
    ('no', 'yes')
    """
    said = yes_no_said(text)
    return said[0] if len(said) == 1 else None


def yes_no_said(text: str) -> tuple[Literal["yes", "no"], ...]:
    """Which of yes and no a text says; both when it hedges.

    >>> yes_no_said("yes and no"), yes_no_said("No fracture."), yes_no_said("lung")
    (('yes', 'no'), ('no',), ())
    """
    clauses = [words for clause in CLAUSE.split(text[:MAX_YES_NO].casefold()) if (words := tokens(clause))]
    yes = any("yes" in words or "".join(words) in YES for words in clauses)
    no = any(_says_no(words, leads=not position) for position, words in enumerate(clauses))
    said: tuple[tuple[Literal["yes", "no"], bool], ...] = (("yes", yes), ("no", no))
    return tuple(word for word, spoken in said if spoken)


def _says_no(words: list[str], *, leads: bool) -> bool:
    """`no` as a word of its own: it leads the text, ends a clause, or stands beside a `yes`."""
    if "".join(words) in NO or words[-1] == "no" or (leads and words[0] == "no"):
        return True
    return any({left, right} == {"yes", "no"} for left, right in pairwise(words))


def infer_kind(references: Sequence[str], options: Sequence[str] = ()) -> Kind:
    """`choice` if there are options, `closed` if every reference is a plain yes or no, else `open`.

    >>> infer_kind(["Yes"]), infer_kind(["no."]), infer_kind(["No acute findings"]), infer_kind(["None"])
    ('closed', 'closed', 'open', 'open')
    >>> infer_kind(["left"], ["left", "right"]), infer_kind(["不是"])
    ('choice', 'closed')
    """
    if options:
        return "choice"
    return "closed" if references and all(_plain_yes_no(reference) for reference in references) else "open"


def _plain_yes_no(text: str) -> bool:
    word = "".join(tokens(text)) if len(text) < CACHED_LENGTH else ""
    return word in YES or word in NO


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
    """Whether a text stands where an answer should: the prompt's own words, `N/A`, a tag.

    >>> is_placeholder("[Your answer]"), is_placeholder("N/A"), is_placeholder("none"), is_placeholder("the answer")
    (True, True, False, True)
    """
    return len(text) <= CACHED_LENGTH and normalize(text) in PLACEHOLDERS


def for_model(text: str, *, limit: int) -> str:
    """Text that any tokenizer takes: trimmed, at most `limit` characters, lone surrogates replaced.

    >>> for_model(" left lung ", limit=6), for_model("\\ud800", limit=9)
    ('left l', '?')
    """
    return text.strip()[:limit].encode("utf-8", "replace").decode("utf-8")


SENTENCE_END = re.compile(r"[.!?。！？](?=[\s\"')\]]|$)|[。！？]|\n+")


def sentences(text: str) -> int:
    """How many sentences with a word in them a text has.

    >>> sentences("A 1.5 cm nodule. No effusion!"), sentences("opacity"), sentences("... ")
    (2, 1, 0)
    """
    return sum(any(letter.isalnum() for letter in part) for part in SENTENCE_END.split(text))
