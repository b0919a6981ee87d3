"""From a text to the same text with each sign that carries meaning, and each number, in one spelling.

It comes before anything is cut at punctuation, which would lose the signs:

    HER2+, HER2⁻       a result: `⊕` and `⊖` glued to the word, which `normalize` shows as + and -
    T1↑, T1 ⇧, T1 ↗    ↑ and ↓
    1 -> 2, 1 ⇒ 2      →, ← and ↔, which the clinical scorer reads and `normalize` drops
    Gram - rods        Gram⊖ rods: a sign alone between words, where the word before it is a test's
    CT + contrast      CT with contrast
    <=, </=, != , +/-  ≤, ≥, ≠, ±
    1½, 5,2 cm, 10⁶    1.5, 5.2 cm, 10^6: a comma is decimal only before a unit, so that 1,500 stays thousands
    3 µm               3 um
    minus 15, ♂, T2*   -15, male, T2 star

Units are never converted here: 15 mm is not 1.5 cm.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

POSITIVE, NEGATIVE = "⊕", "⊖"

UNITS = (
    r"(?:mm|cm|dm|m|km|um|µm|μm|nm|ml|dl|cl|l|ul|µl|μl|cc|kg|mg|mcg|ug|µg|μg|g|hu|kv|kvp|mas|msv|mgy|gy|mhz|khz|hz|ms|"
    r"tesla|t|in|inch|inches|years?|yo|months?|weeks?|days?|hours?|minutes?|degrees?|percent|mmhg|mmol|iu|"
    r"(?:milli|centi)?(?:meter|metre|liter|litre)s?)(?:\b|(?=[²³/]))|%|‰|°|毫米|厘米|毫升|公斤|岁"
)
NEEDED = re.compile(
    r"[^\x00-\x7f]|\d,\d|\d/\d|[<>=!+*]|-(?:\W|$)|-(?:c|ve|contrast|gd|gad\w{0,8})\b|\bminus\b", re.IGNORECASE
)
"""A text without a match holds no sign to respell, and is returned as it is."""

EASY = str.maketrans(
    {
        **dict.fromkeys("⇑⬆⇧↟⭡🡅↗⬈", "↑"),
        **dict.fromkeys("⇓⬇⇩↡⭣🡇↘⬊", "↓"),
        **dict.fromkeys("⇒⟶⟹➔➙➜➝➞➡⇨↦", "→"),
        **dict.fromkeys("⇐⟵⟸⬅⇦", "←"),
        **dict.fromkeys("⇔⟷⟺⬌⇄⇌", "↔"),
        **{"¬": " not ", "∧": " and ", "∨": " or "},
        **{
            "♂": " male ",
            "♀": " female ",
            "‰": " permille ",
            "≪": "<",
            "≫": ">",
            "≦": "≤",
            "≧": "≥",
            "⩽": "≤",
            "⩾": "≥",
        },
        **{
            "≮": "≥",
            "≯": "≤",
            "≰": ">",
            "≱": "<",
            "＜": "<",
            "＞": ">",
            "＋": "+",
            "＝": "=",
            "−": "-",
            "﹢": "+",
            "﹤": "<",
        },
        **{
            "﹥": ">",
            "，": ",",
            "；": ";",
            "：": ":",
            "！": "!",
            "？": "?",
            "（": "(",
            "）": ")",
            "⁄": "/",
            "\xa0": " ",
            "\u2009": " ",
            "\u202f": " ",
            "∶": ":",
            "⁺": "+",
            "⊕": "+",
            "⊖": "-",
        },
    }
)
NAMES = {
    letter: name.rpartition(" ")[2].lower().replace("lamda", "lambda")
    for code in (*range(0x391, 0x3AA), *range(0x3B1, 0x3CA))
    if (name := unicodedata.name(letter := chr(code), "")) and "FINAL" not in name
}
GREEK = re.compile("(?<![\u0370-\u03ff])([A-Za-z])?([\u0391-\u03a9\u03b1-\u03c9])(?![\u0370-\u03ff])")
MICRO = re.compile("[µμ](?=(?:m|g|l|mol|sv|gy|ci|s|u|in)\\b)", re.IGNORECASE)
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
POWER = re.compile("(?<=\\d)⁻?[⁰¹²³⁴-⁹]{1,9}")
VULGAR = re.compile("(?:(?<![\\d.,/])(\\d{1,9})[ -]?)?([¼-¾⅐-⅞])")
MIXED = re.compile(rf"(?<![\w.,/])(?:(\d{{1,4}})[ -])?([1-9])/([2-9]|1[06])(?=[ -]?(?:{UNITS}))", re.IGNORECASE)
DECIMAL = re.compile(
    rf"(?:(?<=\d),(?=\d{{1,2}}(?!\d))|(?<=\d),(?=\d{{4,9}}(?!\d))|(?<=\b0),(?=\d{{3}}(?!\d)))"
    rf"(?=\d{{1,9}}(?: ?(?:x|×|\*|-|–|/|to|by|bis) ?\d{{1,9}}(?:[.,]\d{{1,9}})?){{0,3}}[ -]?(?:{UNITS}))",
    re.IGNORECASE,
)
ARROWS = re.compile(r"(<?)[-=~]{1,64}>|<[-=~]{1,64}(?![\d.=])")
LEVELS = re.compile(r"(?<!\w)([CLS]\d{1,2}|T(?:[3-9]|1[0-2]))/(?=\d{1,2}(?!\w))")
"""C5/6 is the disc between two vertebrae, and not a fraction."""
DEGREE = re.compile(r"(?<=\d) ?º")
CROSSED = re.compile(r"(?<=\d)( ?)\*\1(?=\d)")
"""The star in "3 * 4 cm"."""
MARKED = re.compile(r"(?<=[^\W_]) ?([▲🔺]|[▼🔻])(?!\w)")
"""A triangle after a word is an arrow up or down; before a word it is a bullet."""
PAIRS = (
    (re.compile(r"</=|<=|=<"), "≤"),
    (re.compile(r">/=|>=|(?:\A|(?<=[^\d\s])) ?=>(?= ?\.?\d)"), "≥"),
    (re.compile(r"!=|=/=|<>|≠|=\u0338"), "≠"),
    (re.compile(r"\+ ?/ ?-|\+-"), "±"),
)
BRACKETS = re.compile(r"(?<!\w)<(/?[A-Za-z][\w ]{0,30})>|<(/[A-Za-z]\w{0,30}|br ?/?)>")
"""Angle brackets around a tag or a gap to fill in (`<br>`, `<your answer>`), which compare nothing."""
RUNS = re.compile(r"[ \t]{2,}")
AROUND = re.compile(r" ?([<>≤≥≠]) ?")
MINUS = re.compile(r"\bminus (?=\.?\d)|\A\s?- (?=\d{1,9}(?:\.\d{1,9})? ?hu\b)", re.IGNORECASE)
STAR = re.compile(r"(?<![*\w])([Tt][12])\*(?![*\w])")
CONTRAST = re.compile(
    r"\b(t[12](?:wi?)?|cta?|mr[ia]?) ?(?:\(([+-]) ?c\)|([+-])c(?![\w-]| ?(?:spine|arm|section)))", re.IGNORECASE
)
"""T1+C and CT (-C): with and without contrast. In "CT-C-spine" the sign is a hyphen before a word."""
AGENT = re.compile(
    r"\b(t[12](?:wi?)?|cta?|mr[ia]?|scan)(?: ?(\+) ?| -| - (?=\w+\s*(?:$|[,;:.)\]])))"
    r"(contrast|gad(?:olinium)?|gd)(?![\w-])",
    re.IGNORECASE,
)
"""CT + contrast and CT - contrast; a dash with more words after "contrast" is not a minus."""
ALONE = re.compile(r"\s*(?:\+|[(\[] ?(?:\+|([-–])) ?[)\]])\s*")
"""A text that is a result and nothing else: "+", "(+)", "(-)". A bare "-" is no result: it marks an empty cell."""
SPELLED = re.compile(r" ?([+-])ve\b", re.IGNORECASE)
IN_BRACKETS = re.compile(r"(?<=[^\W_])\s?[(\[]\s?(\+{1,4}|[-–])\s?[)\]]")
"""A result in brackets: "EGFR (+)"."""

RESULT = re.compile(r"(?<=[^\W_])(\+{1,4})(?![\w+])|(?<!\S)(\+{2,4})(?!\S)|(?<=\w) (\+{1,4})(?=[,;)\]/]|$)")
STATUS = (
    "c|k|er|pr|hr|ar|rh|rf|hbv|hcv|hiv|hpv|ebv|cmv|tb|gd|gad|alk|ros|ret|egfr|kras|braf|idh|mgmt|ana|anca|psa|hbsag|"
    "msi|ve|ig[gmaed]|gram|coombs|g(?= ?[-–⁻] (?:cocc|rod|bac))"
)
"""After one of these words, or a short word with a digit in it, a minus means negative."""
LACKING = re.compile(
    rf"(?<![\w-])((?:[a-z]{{2,6}}-)?(?:(?=[a-z]{{1,8}}\d)[a-z\d]{{2,9}}|{STATUS})|[0-4])"
    r"(?:[-–⁻](?=$|[\s,;:.)\]/])| [-–⁻](?=$|[,;)\]/]))"
    r"(?!\s?[a-z]?\d)",
    re.IGNORECASE,
)
BETWEEN = re.compile(
    r"(?<![\w-])([Gg]ram|GRAM|[Cc]oombs|R[Hh]) ([+–-]) (?=[^\W\d])|"
    r"(?<![\w-])(ER|PR|HR|AR|HER-?2|EGFR|ALK|K?RAS|BRAF|IDH|PD-L1|HBsAg|HIV|HBV|HCV|HPV|EBV|CMV|CD\d{1,3}|[Pp]\d\d) "
    r"([+–-]) (?=(?:[a-z]+ ){0,2}(?:(?:adeno)?carcinoma|cancer|tumou?r|lymphoma|leuka?emia|cell|patient|mother|donor|"
    r"blood|disease|subtype|case|woman|man)s?\b)"
)
"""A sign between words that is a result: "Gram + cocci", "ER - breast cancer". After other words it is a dash."""
ASIAN = re.compile(r"(?<=[体原酸白验查征应养色])[-–⁻](?=$|[\s,;:.)\]/。、])(?!\s?\d)")
"""The minus of a result after a Chinese word for a test, or for what the test looks for."""
ENDING = re.compile(r"(?<![\w-])([A-Z]{1,6})[-⁻](?=\.?\s*$|[)\]])")
"""A minus after an abbreviation at the end of the text: it is no hyphen, because no second half can follow."""
SUSPENDED = re.compile(r"\s(?:weighted\b|(?:and|or|to|vs\.?|/) ?[\w/]{1,12}-\w)", re.IGNORECASE)
"""If this follows, the sign is a hyphen and not a minus: "T1- and T2-weighted"."""


def spell_signs(text: str) -> str:
    """The text with each sign and number in one spelling. Idempotent; a text without signs comes back as it is.

    >>> spell_signs("1½ cm, 5,2 x 3,1 cm, 1,500 mL, 10⁶, 3 µm, <=5 mm")
    '1.5 cm, 5.2 x 3.1 cm, 1,500 mL, 10^6, 3 um, ≤ 5 mm'
    >>> spell_signs("HER2+ and ER-, T1- and T2-weighted, minus 15 HU, a != b")
    'HER2⊕ and ER⊖, T1- and T2-weighted, -15 HU, a ≠ b'
    """
    if not NEEDED.search(text):
        return text
    text = text.translate(EASY)
    if "<" in text or ">" in text or "=" in text or "≤" in text or "≥" in text or "≠" in text:
        text = BRACKETS.sub(lambda match: f" {match[1] or match[2]} ", text)
        for pattern, sign in PAIRS[:3]:
            text = pattern.sub(sign, text)
        text = AROUND.sub(r" \1 ", ARROWS.sub(_arrow, text))
    if not text.isascii():
        text = MICRO.sub("u", text)
        text = POWER.sub(lambda match: "^" + match[0].translate(RAISED), VULGAR.sub(_vulgar, text))
        text = MARKED.sub(lambda match: "↑" if match[1] in "▲🔺" else "↓", DEGREE.sub("°", text))
    if "/" in text:
        text = LEVELS.sub(r"\1-", MIXED.sub(_mixed, text))
    if "," in text:
        text = DECIMAL.sub(".", text)
    text = MINUS.sub("-", CROSSED.sub(" x ", STAR.sub(r"\1 star", RUNS.sub(" ", text))))
    if "+" in text or "-" in text or "–" in text or "⁻" in text:
        if result := ALONE.fullmatch(text):
            return "negative" if result[1] else "positive"
        text = AGENT.sub(lambda match: f"{match[1]} {'with' if match[2] else 'without'} {match[3]}", text)
        text = CONTRAST.sub(lambda match: f"{match[1]} C{match[2] or match[3]}", text)
        text = SPELLED.sub(lambda match: " positive" if match[1] == "+" else " negative", text)
        text = IN_BRACKETS.sub(lambda match: POSITIVE * len(match[1]) if "+" in match[1] else NEGATIVE, text)
        text = PAIRS[3][0].sub(PAIRS[3][1], text)
        text = RESULT.sub(lambda match: POSITIVE * len(match[0].strip()), text)
        text = ENDING.sub(rf"\1{NEGATIVE}", LACKING.sub(_lacking, BETWEEN.sub(_between, text)))
        text = ASIAN.sub(NEGATIVE, text)
    return RUNS.sub(" ", text)


def name_greek(text: str) -> str:
    """The text with single Greek letters replaced by their names; Greek words stay as they are.

    >>> name_greek("tnf-α"), name_greek("γδ")
    ('tnf-alpha', 'γδ')
    """
    return text if text.isascii() else GREEK.sub(_greek, text)


def _greek(match: re.Match[str]) -> str:
    """The name of a Greek letter, with a space if a Latin letter stands before it."""
    return f"{match[1]} {NAMES[match[2]]}" if match[1] else NAMES.get(match[2], match[2])


def _decimal(value: Fraction) -> str | None:
    """A fraction as a decimal if three places suffice, else `None`."""
    return f"{float(value):g}" if 1000 % value.denominator == 0 else None


def _vulgar(match: re.Match[str]) -> str:
    """1½ becomes 1.5. A lone ½ becomes 1/2, which `MIXED` makes decimal if a unit follows."""
    part = Fraction(unicodedata.numeric(match[2])).limit_denominator(10)
    if not match[1]:
        return f"{part.numerator}/{part.denominator}"
    return _decimal(int(match[1]) + part) or f"{match[1]} {part.numerator}/{part.denominator}"


def _mixed(match: re.Match[str]) -> str:
    """1 1/2 before a unit becomes 1.5."""
    return _decimal(int(match[1] or 0) + Fraction(int(match[2]), int(match[3]))) or match[0]


def _arrow(match: re.Match[str]) -> str:
    """->, <- and <-> become one arrow each."""
    return " ← " if match[1] is None else " ↔ " if match[1] else " → "


def _between(match: re.Match[str]) -> str:
    """A word with the sign of its result attached: "Gram + cocci" becomes "Gram⊕ cocci"."""
    return f"{match[1] or match[3]}{POSITIVE if '+' in (match[2], match[4]) else NEGATIVE} "


def _lacking(match: re.Match[str]) -> str:
    """The minus of a result becomes ⊖; a hyphen whose second half follows stays a hyphen."""
    return match[0] if SUSPENDED.match(match.string, match.end()) else match[1] + NEGATIVE
