"""Small files of judgements in the layouts of the readers, with texts of our own, and a scorer to try them on."""

import csv
import json

FINDINGS = [
    ("Cardiomegaly", "Small left effusion"),
    ("Right apical pneumothorax",),
    (),
    ("Nodule in the left upper lobe", "Old rib fracture"),
]


class Plain:
    """A scorer that reads its score from the candidate itself: "0.4 …"; "none" is unscored."""

    name = "plain"
    range = (0.0, 1.0)
    needs = ()

    def applies(self, item):
        return True

    def __call__(self, items):
        texts = [item.answer.split()[0] for item in items]
        return [None if text == "none" else float(text) for text in texts]

    def explain(self, item):
        return [f"read {item.answer!r}"]


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_radpref(folder):
    """The folder of RadPref: a list of cases, and a file of ratings for each of two raters."""
    (folder / "radiologist_annotations").mkdir(parents=True)
    cases = [
        {
            "id": 10 + i,
            "ground_truth_findings": list(found),
            "C1_findings": list(found),
            "C2_findings": ["Pulmonary edema"] if i else [],
            "C1_source": "a model",
        }
        for i, found in enumerate(FINDINGS)
    ]
    (folder / "preference_data.json").write_text(json.dumps(cases))
    for rater in (1, 2):
        given = {str(case["id"]): {"C1": {"rating": 5}, "C2": {"rating": rater}} for case in cases}
        if rater == 2:
            given["13"]["needs_review"] = True
        file = folder / "radiologist_annotations" / f"user_{rater}.json"
        file.write_text(json.dumps({"annotations": given}))
    return folder


RADJUDGE = '''"""Cases."""
raise SystemExit("a reader must not run this")

RANKING_TESTS = [
    {"category": "Size", "tests": [
        {"id": "1a", "ground_truth": "3 cm mass.", "expected_ranking": "C1 > C2",
         "candidates": {"C1": {"text": "3 cm mass."}, "C2": {"text": "Clear."}}},
        {"id": "1b", "ground_truth": "Effusion.", "expected_ranking": ["C1 = C2", "C3 < C2"],
         "candidates": {"C1": {"text": "Effusion."}, "C2": {"text": "EFFUSION"}, "C3": {"text": "Rib fracture."}}},
        {"id": "2a", "ground_truth": "Calcified aorta.", "expected_ranking": "C2 > C1", "candidates": {
            "C1": {"text": "Clear.", "context": {"age": "25"}}, "C2": {"text": "Clear.", "context": {"age": "82"}}}},
    ]},
]
'''

E, N, C = "Entailment", "Neutral", "Contradiction"
KQA = (
    ["", "Question", "llm_x", "answer", "claim", "category_x", "majority_label", "label_0", "label_1", "label_2"],
    [
        [0, "What is aspirin?", "m", "Aspirin thins the blood.", "Aspirin thins the blood", "Must_have", E, E, E, E],
        [1, "What is aspirin?", "m", "Aspirin thins the blood.", "Aspirin may bleed", "Must_have", N, N, N, E],
        [2, "Is ibuprofen safe?", "m", "It always is.", "Ibuprofen harms kidneys", "Must_have", C, C, E, N],
        [3, "Is ibuprofen safe?", "m", "It always is.", "Take it with food", "Nice_to_have", C, C, C, N],
    ],
)

MEDEC = (
    [
        *("Text ID", "Text", "Sentences", "Error Flag", "Error Type"),
        *("Error Sentence ID", "Error Sentence", "Corrected Sentence", "Corrected Text"),
    ],
    [
        ["t-0", "…", "…", 1, "diagnosis", 3, "He has gout.", "He has septic arthritis.", "…"],
        ["t-1", "…", "…", 0, "NA", -1, "NA", "NA", "NA"],
        ["t-2", "…", "…", 1, "treatment", 0, "Aspirin is given.", "Heparin is given.", "…"],
    ],
)
