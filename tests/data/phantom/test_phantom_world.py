from collections import Counter

import numpy as np
import pytest

from medrft.data.phantom import words
from medrft.data.phantom.draw import paint_scene
from medrft.data.phantom.questions import ask_questions
from medrft.data.phantom.rationale import ERRORS, teach_wrong, write_thought
from medrft.data.phantom.world import HELD_OUT, MODALITIES, SORTS, Finding, Scene, draw_scene

SCENES = [draw_scene(np.random.default_rng([3, n])) for n in range(1500)]
OUTSIDE = [draw_scene(np.random.default_rng([4, n]), shifted=True) for n in range(600)]
ASKED = [
    (asked, scene) for n, scene in enumerate(SCENES) for asked in ask_questions(np.random.default_rng([5, n]), scene, 4)
]


def pairs(scenes: list[Scene]) -> set[tuple[str, str | None]]:
    return {(finding.type, finding.place) for scene in scenes for finding in scene.findings}


def test_held_out_pairs_are_only_out_of_domain_but_their_types_and_places_are_not():
    assert not pairs(SCENES) & HELD_OUT
    assert pairs(OUTSIDE) >= HELD_OUT
    assert {type_ for type_, _ in HELD_OUT} <= {type_ for type_, _ in pairs(SCENES)}
    assert {place for _, place in HELD_OUT} <= {place for _, place in pairs(SCENES)}


def test_all_modalities_and_types_occur_and_sides_balance():
    findings = [(scene.modality, finding) for scene in SCENES for finding in scene.findings]
    assert {(m, f.type) for m, f in findings} == {(m, sort.type) for m in MODALITIES for sort in SORTS[m]}
    sides = Counter(finding.side for _, finding in findings)
    assert 0.85 < sides["right"] / sides["left"] < 1.18
    assert 0.18 < sum(not scene.findings for scene in SCENES) / len(SCENES) < 0.26


def test_two_findings_are_of_two_types_in_two_places():
    for scene in SCENES:
        if len(scene.findings) == 2:
            first, second = scene.findings
            assert first.type != second.type
            assert first.place is None or (first.place, first.side) != (second.place, second.side)


def test_kinds_keep_their_shares_and_closed_answers_balance():
    kinds = Counter(asked.kind for asked, _ in ASKED)
    assert kinds["open"] / len(ASKED) == pytest.approx(0.45, abs=0.05)
    assert kinds["closed"] / len(ASKED) == pytest.approx(0.35, abs=0.05)
    assert kinds["choice"] / len(ASKED) == pytest.approx(0.20, abs=0.05)
    yes = [asked.wordings == ("yes",) for asked, _ in ASKED if asked.kind == "closed"]
    assert np.mean(yes) == pytest.approx(0.5, abs=0.05)


def test_the_question_alone_says_little():
    """The most frequent answer of an exact question, learned on one half, on the other half."""
    answers: dict[str, Counter[str]] = {}
    half = len(ASKED) // 2
    for asked, _ in ASKED[:half]:
        answers.setdefault(asked.question, Counter())[asked.wordings[0]] += 1
    right: dict[str, list[bool]] = {"closed": [], "choice": [], "open": []}
    for asked, _ in ASKED[half:]:
        if asked.question in answers:
            right[asked.kind].append(answers[asked.question].most_common(1)[0][0] == asked.wordings[0])
    assert np.mean(right["closed"]) < 0.57
    assert np.mean(right["choice"]) < 0.47
    assert np.mean(right["open"]) < 0.42


def test_questions_of_a_scene_differ_and_choices_hold_the_answer_once():
    for n, scene in enumerate(SCENES[:300]):
        asked = ask_questions(np.random.default_rng([6, n]), scene, 6)
        assert len({row.question for row in asked}) == len(asked) > 2
        for row in asked:
            assert row.kind != "choice" or row.options.count(row.wordings[0]) == 1
            assert len(set(row.options)) == len(row.options)


@pytest.mark.parametrize(
    ("finding", "wording"),
    [
        (Finding(type="nodule", side="right", place="upper zone", size="small"), "small right upper zone nodule"),
        (Finding(type="effusion", side="both", size="large", count=2), "large bilateral pleural effusions"),
        (Finding(type="stone", side="left", place="kidney", count=2), "two renal calculi in the left kidney"),
        (Finding(type="cyst", place="liver", size="large"), "there is a large cyst in the liver"),
        (Finding(type="aneurysm"), "there is an aortic aneurysm"),
        (Finding(type="hydrocephalus"), "there are enlarged ventricles"),
        (
            Finding(type="consolidation", side="left", place="lower zone", size="small"),
            "small left lower zone pneumonia",
        ),
    ],
)
def test_descriptions_read_like_english(finding, wording):
    assert wording in words.finding_descriptions(finding)


def test_thoughts_are_short_and_name_what_they_see():
    lengths = []
    for n, (asked, scene) in enumerate(ASKED[:1500]):
        thought = write_thought(np.random.default_rng([7, n]), scene, asked)
        lengths.append(len(thought.split()))
        assert "  " not in thought and "None" not in thought and " a a" not in thought
        if "finding" in asked.about:
            finding = scene.findings[asked.about["finding"]]
            assert finding.side in (None, "both") or f" {finding.side} " in thought.replace(".", " ")
            assert any(noun in thought for noun in words.finding_nouns(finding))
    assert min(lengths) >= 10 and max(lengths) <= 45 and 14 < np.mean(lengths) < 25


def test_teacher_errors_change_the_thought_and_are_named():
    seen = Counter()
    for n, (asked, scene) in enumerate(ASKED[:1500]):
        thought, name = teach_wrong(np.random.default_rng([8, n]), scene, asked)
        seen[name] += 1
        if name == "wrong_side":
            side = scene.findings[asked.about.get("finding", 0)].side
            assert (" left" if side == "right" else " right") in thought
        if name == "missed_finding":
            assert scene.findings
    assert set(seen) == {*ERRORS, "wrong_modality"}


def pixels(scene: Scene, seed: int, size: int = 64) -> np.ndarray:
    return paint_scene(scene, size, np.random.default_rng(seed)).astype(float)


@pytest.mark.parametrize(
    ("modality", "right", "left"),
    [
        (
            "xray",
            Finding(type="effusion", side="right", size="large"),
            Finding(type="effusion", side="left", size="large"),
        ),
        (
            "mr",
            Finding(type="subdural", side="right", size="large"),
            Finding(type="subdural", side="left", size="large"),
        ),
        (
            "ct",
            Finding(type="mass", side="right", place="kidney", size="large"),
            Finding(type="mass", side="left", place="kidney", size="large"),
        ),
    ],
)
def test_the_patients_right_is_on_the_left_of_the_picture(modality, right, left):
    on = {
        side: np.mean([pixels(Scene(modality=modality, findings=(finding,)), n) for n in range(12)], axis=0)
        for side, finding in (("right", right), ("left", left))
    }
    difference = on["right"] - on["left"]
    assert difference[:, :32].sum() > 2000 and difference[:, 32:].sum() < -2000


@pytest.mark.parametrize("size", [32, 64, 224])
def test_every_scene_can_be_drawn_at_any_size(size):
    for n, scene in enumerate(SCENES[:20] + OUTSIDE[:20]):
        picture = paint_scene(scene, size, np.random.default_rng(n))
        assert picture.shape == (size, size) and picture.dtype == np.uint8
        assert picture.std() > 20


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_finding_is_seen_at_64_pixels(modality):
    """The same anatomy with the finding differs somewhere by more than the grain does."""
    normal = [pixels(Scene(modality=modality), n) for n in range(8)]
    examples = {finding: None for scene in SCENES for finding in scene.findings if scene.modality == modality}
    for finding in examples:
        changes = []
        for n, picture in enumerate(normal):
            change = pixels(Scene(modality=modality, findings=(finding,)), n) - picture
            blocks = change.reshape(32, 2, 32, 2).mean((1, 3))
            changes.append(np.abs(blocks - np.median(blocks)).max())
        assert np.median(changes) > 30, finding
