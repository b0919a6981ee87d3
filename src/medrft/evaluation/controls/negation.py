"""Negates closed questions by rule: a model that says yes to the question must say no to its negation.

    "Is there a pneumothorax?"          ->  "Is it true that there is no pneumothorax?"
    "Does the picture contain lung?"    ->  "Is it true that the picture does not contain lung?"
    "Are the lungs normal?"             ->  "Is it true that the lungs are not normal?"

"Is it true that" comes first because in English a bare "Is there no …?" may be answered either way. A question that no
rule fits, or whose negation could be read in two ways, is left out with the reason, so that no odd sentence is asked.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FOREIGN = "not in English"
SENTENCES = "more than one sentence"
NEGATIVE = "already negated"
JOINED = "more than one claim"
COUNTED = "counts or compares"
HEDGED = "hedged"
NO_RULE = "no safe rule for its form"
TOO_LONG = "too long for one question"
MAX_LENGTH = 1_000
"""Characters; a longer text holds more than one claim."""

SLASHED = re.compile(r"^(?:is/are|are/is)\b", re.IGNORECASE)
BLOCKED = (
    (
        NEGATIVE,
        re.compile(
            r"\b(?:not|no|never|none|neither|nor|without|cannot|absent|absence|lack\w*|fail\w*|exclude\w*|ruled? out"
            r"|free of|clear of|negative for|devoid)\b|n['’]t\b|\bnon-?\w",
            re.IGNORECASE,
        ),
    ),
    (JOINED, re.compile(r"\b(?:and|or|but|either|both|as well as|versus|vs)\b|[,;:/]", re.IGNORECASE)),
    (
        COUNTED,
        re.compile(
            r"\d (?!mm\b|cm\b)|[<>]|\b(?:all|every|each|many|several|multiple|numerous|more|less|fewer|few|most|enough"
            r"|only|at least|at most|just|one|two|three|four|five|single|another|other|others|than|anything|something"
            r"|anyone|someone|everything|half|same)\b",
            re.IGNORECASE,
        ),
    ),
    (
        HEDGED,
        re.compile(
            r"\b(?:likely|probably|possibly|perhaps|typically|usually|ever|still|yet|already|also|too|even|if|because)\b",
            re.IGNORECASE,
        ),
    ),
)

THERE = re.compile(r"^(is|are|was|were) there (?:(?:a|an|any|some) )?(?P<rest>\S.*)$", re.IGNORECASE)
NOT_AFTER_NO = re.compile(r"^(?:a|an|any|some|the|this|that|these|those|his|her|its|their|such)\b", re.IGNORECASE)
ANY_OF = re.compile(r"^do any of (?P<rest>(?:the|these|those) .+)$", re.IGNORECASE)
VERBS = (
    "contain|show|have|look|appear|exist|belong|demonstrate|indicate|suggest|represent|receive|see|extend|include"
    "|display|depict|reveal|involve"
)
DO = re.compile(rf"^(?P<aux>does|do|did) (?P<subject>.+?) (?P<verb>{VERBS})(?P<rest>(?: .+)?)$", re.IGNORECASE)
CAN_BE = re.compile(r"^can (?P<subject>.+?) be (?P<rest>.+)$", re.IGNORECASE)
CAN_SEE = re.compile(
    r"^can (?P<subject>you|we|one) (?P<rest>(?:see|identify|visualize|appreciate|observe|detect|evaluate|find) .+)$",
    re.IGNORECASE,
)
POINTING = re.compile(
    r"^(?P<be>is|was|are|were) (?P<subject>this|that|it|these|those) (?P<rest>(?:a|an|the|in|on|from|taken|normal"
    r"|abnormal|consistent|typical)\b.*)$",
    re.IGNORECASE,
)
BE = re.compile(r"^(?P<be>is|are|was|were|has|have) (?P<rest>.+)$", re.IGNORECASE)
LIES = re.compile(
    r"^(?P<be>is|are) (?P<subject>(?:the|this|these) (?:\w+ ){0,2}?\w+) (?P<rest>(?:in|on) the (?:[\w-]+ ){0,2}"
    r"(?:side|zone|lobe|plane|kidney|liver|spleen|lung|hemisphere|abdomen|chest|brain|pelvis|head))$",
    re.IGNORECASE,
)

PREDICATE = re.compile(
    r"^(?:normal|abnormal|healthy|unhealthy|enlarged|dilated|midline|present|visible|seen|visualized|evident|identified"
    r"|identifiable|noted|observed|detected|shown|affected|involved|swollen|fractured|calcified|obscured|flattened|flat"
    r"|hyperinflated|inflated|collapsed|deviated|displaced|shifted|widened|narrowed|thickened|compressed|atrophied"
    r"|increased|decreased|elevated|preserved|intact|clear|blunted|symmetric|symmetrical|asymmetric|asymmetrical"
    r"|homogeneous|homogenous|heterogeneous|cystic|solid|hyperdense|hypodense|hyperintense|hypointense|dense"
    r"|well-circumscribed|circumscribed|well-defined|ill-defined|wedge-shaped|ring-enhancing|enhancing|ruptured"
    r"|pathologic|pathological|malignant|benign|cancerous|metastatic|large|small|big|bilateral|unilateral|supine|prone"
    r"|upright|given|used|administered|located|positioned|distended|obstructed|opacified|perforated|inflamed)$",
    re.IGNORECASE,
)
TAIL = re.compile(
    r"^(?:(?:in|on) (?:this|the|these) (?:image|images|picture|scan|x-ray|xray|x ray|film|study|view|ct|mri|cxr)"
    r"|in (?:size|appearance|shape|position)|appearing|here)?$",
    re.IGNORECASE,
)
BEFORE_NOUN = frozenset(
    (
        *("the", "a", "an", "this", "that", "these", "those", "any", "some", "left", "right"),
        *("in", "on", "of", "at", "by", "with", "within", "under", "over", "from", "to"),
    )
)
DANGLING = frozenset(
    ("ring", "rim", "located", "oriented", "seen", "found", "shown", "taken", "noted", "above", "below")
)
"""Last words that belong to what follows them, so that the subject is incomplete."""
CLAUSE = frozenset(("that", "which", "who", "whose", "when", "where", "while"))


class Negation(NamedTuple):
    """A question's negation, or the reason why it has none."""

    question: str | None
    reason: str = ""


def negate_question(question: str) -> Negation:
    """The question whose right answer is yes where that of `question` is no, and the other way round.

    >>> negate_question("Is there any free air?").question
    'Is it true that there is no free air?'
    >>> negate_question("Is the heart not enlarged?"), negate_question("Are both lungs clear?").reason
    (Negation(question=None, reason='already negated'), 'more than one claim')
    """
    if len(question) > MAX_LENGTH:
        return Negation(None, TOO_LONG)
    text = " ".join(question.split())
    if not text.isascii():
        return Negation(None, FOREIGN)
    body = text.rstrip(" ?.")
    if re.search(r"[?!]|\.\s", body):
        return Negation(None, SENTENCES)
    # "Is/are there …" is one claim, but its slash would be taken for two below.
    body = SLASHED.sub("are", body)
    for reason, pattern in BLOCKED:
        if pattern.search(body):
            return Negation(None, reason)
    claim = _there(body) or _does(body) or _can(body) or _pointing(body) or _lies(body) or _is(body)
    return Negation(f"Is it true that {claim}?") if claim else Negation(None, NO_RULE)


def _there(body: str) -> str | None:
    match = THERE.match(body)
    if match is None or NOT_AFTER_NO.match(match["rest"]):
        return None
    return f"there {match[1].lower()} no {match['rest']}"


def _does(body: str) -> str | None:
    if (match := ANY_OF.match(body)) and re.search(rf" (?:{VERBS})\b", match["rest"], re.IGNORECASE):
        return f"none of {match['rest']}"
    match = DO.match(body)
    if match is None or not _is_subject(match["subject"].split()):
        return None
    return f"{match['subject']} {match['aux'].lower()} not {match['verb']}{match['rest']}"


def _can(body: str) -> str | None:
    if match := CAN_SEE.match(body):
        return f"{match['subject'].lower()} cannot {match['rest']}"
    match = CAN_BE.match(body)
    if match is None or not _is_subject(match["subject"].split()):
        return None
    return f"{match['subject']} cannot be {match['rest']}"


def _pointing(body: str) -> str | None:
    match = POINTING.match(body)
    return f"{match['subject'].lower()} {match['be'].lower()} not {match['rest']}" if match else None


def _lies(body: str) -> str | None:
    """Where something lies: the place stands at the end of the question and so is the predicate."""
    match = LIES.match(body)
    if match is None or not _is_subject(match["subject"].split()):
        return None
    return f"{match['subject']} {match['be'].lower()} not {match['rest']}"


def _is(body: str) -> str | None:
    """Subject and predicate, split before the only word that can be the predicate; two such words are ambiguous."""
    match = BE.match(body)
    if match is None:
        return None
    words = match["rest"].split()
    places = [i for i in range(1, len(words)) if PREDICATE.match(words[i]) and words[i - 1].lower() not in BEFORE_NOUN]
    if len(places) != 1 or not TAIL.match(" ".join(words[places[0] + 1 :])):
        return None
    start = places[0]
    while start > 1 and (words[start - 1].endswith("ly") or words[start - 1].lower() in ("well", "been")):
        start -= 1
    subject, predicate = words[:start], words[start:]
    perfect = match["be"].lower() in ("has", "have")
    if not _is_subject(subject) or (perfect and predicate[0] != "been" and not predicate[-1].endswith("ed")):
        return None
    return f"{' '.join(subject)} {match['be'].lower()} not {' '.join(predicate)}"


def _is_subject(words: list[str]) -> bool:
    """Whether these words can be a complete subject: a noun, no clause, and no `any`, which `not` would alter."""
    lower = [word.lower() for word in words]
    if not lower or {"any", "some", "there", "be", "is", "are"} & set(lower) or CLAUSE & set(lower[1:]):
        return False
    if len(lower) == 1:
        return lower[0] not in ("the", "a", "an")
    return lower[-1] not in BEFORE_NOUN | DANGLING and not lower[-1].endswith("ing")
