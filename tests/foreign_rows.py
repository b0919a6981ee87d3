"""Eight rows as other trainers hold them, and rewards with and without a state."""

from score_items import think

TEXT = {"parts": [{"scorer": "bleu1", "weight": 0.5}, {"scorer": "exact_match", "weight": 0.5}]}
LEARNS = {
    "parts": [
        {"scorer": "rouge1", "weight": 0.8, "calibrate": {"kind": "adaptive", "t_min": 0.0}},
        {"scorer": "answer_format", "weight": 0.2},
    ]
}
RANKS = {"parts": [{"scorer": "rouge1", "weight": 1.0, "calibrate": "rank"}]}
REFERENCES = ["no", "left lung", "CT", "small pleural effusion", "yes", "right kidney", "a mass", "pneumothorax"]
SAID = ["no", "left lower lung", "MRI", "pleural effusion on the left", "no", "kidney", "a large mass", "nothing"]
COLUMNS = {"solution": REFERENCES, "id": [f"q{n}" for n in range(8)], "modality": ["CT"] * 8}


def completions():
    return [think(text) for text in SAID]
