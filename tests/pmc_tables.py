"""Rows of PMC-VQA in its two versions, and the tables that hold them."""

import csv

CHOICES = {"Choice A": " A:Diffuse", "Choice B": " B:Focal", "Choice C": "C:", "Choice D": " D:None of these"}
V1 = {"Figure_path": "PMC1.jpg", "Question": "Which uptake?", "Answer": "Focal", **CHOICES, "Answer_label": "B"}
V2 = {"index": 7, "Figure_path": "PMC1_1.jpg", "Caption": "a, b", "Question": "Which?", **CHOICES, "Answer": "D"}


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
