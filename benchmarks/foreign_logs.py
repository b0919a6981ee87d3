"""Make small logs of other evaluators by their own code; tests read them (tests/evaluation/foreign).

    python benchmarks/foreign_logs.py inspect-ai OUT    # where inspect-ai 0.3.285 and Pillow are installed
    python benchmarks/foreign_logs.py lmms-eval OUT     # where lmms-eval 0.7.3 can be imported
    python benchmarks/foreign_logs.py vlmevalkit OUT    # where ms-vlmeval 0.0.20 is installed

inspect-ai: two tasks through its own `eval` with its mock model, as zip and as JSON. lmms-eval: its own SLAKE task
marks four answers, and its own tracker writes the samples and the results. VLMEvalKit (ms-vlmeval is its code on PyPI):
its own data sets of short answers, choices, yes or no, and single words evaluate four workbooks that its own `dump`
wrote; a judge that looks for the reference in the answer stands for its language model.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import io
import sys
import time
import types
from pathlib import Path
from typing import Any

POST = "\nAnswer the question using a single word or phrase."
SLAKE = (
    ("11934", "What modality is used to take this image?", "MRI", "OPEN", "MRI", "Modality", "MRI"),
    ("11935", "Does the picture contain liver?", "Yes", "CLOSED", "MRI", "Organ", "Yes, the liver is seen."),
    ("11940", "Which part of the body is shown?", "Abdomen", "OPEN", "CT", "Position", "The abdomen"),
    ("11941", "Is the lung healthy?", "No", "CLOSED", "X-Ray", "Abnormality", "No"),
)
"""Id, question, answer, its type, modality, content type, and what the model says."""
VQA = (
    ("Is there a pneumothorax?", "no", "closed", "This is a normal study."),
    ("Is the heart enlarged?", "yes", "closed", "Yes, it is enlarged."),
    ("Which side is the effusion on?", "left", "open", "On the left."),
    ("What is the abnormality?", "pleural effusion", "open", "Fluid in the pleural space, which means that"),
)
"""Question, answer, its type, and what the model says; the last is cut off."""
CHOICES = (
    ("Which modality is this?", ["CT", "MRI", "X-ray"], "C", "The bones are bright.\n\nANSWER: C"),
    ("Which plane is this?", ["axial", "coronal"], "A", "ANSWER: B"),
)


def make_inspect(folder: Path) -> None:
    """Four free answers marked by `includes`, and two choices marked by `choice`."""
    import tiktoken
    from inspect_ai import Task, eval, task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
    from inspect_ai.scorer import accuracy, choice, grouped, includes, stderr
    from inspect_ai.solver import generate, multiple_choice

    words = type("Words", (), {"encode": staticmethod(lambda text, **more: text.split())})()
    tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *names, **more: words  # else it is downloaded

    def asked(number: int, question: str, answer: str, kind: str) -> Sample:
        content = [ContentText(text=question), ContentImage(image=picture(90 * (number // 2)))]
        facts = {"answer_type": kind, "image_organ": "CHEST"}
        return Sample(id=f"q{number}", input=[ChatMessageUser(content=content)], target=answer, metadata=facts)

    @task
    def small_vqa_rad() -> Task:
        metrics = [accuracy(), stderr(), grouped(accuracy(), "answer_type", all=False)]
        rows = [asked(number, *row[:3]) for number, row in enumerate(VQA)]
        return Task(dataset=rows, solver=generate(), scorer=includes(), metrics=metrics)

    @task
    def small_choices() -> Task:
        rows = [Sample(id=n, input=q, choices=given, target=letter) for n, (q, given, letter, _) in enumerate(CHOICES)]
        return Task(dataset=rows, solver=multiple_choice(), scorer=choice())

    for kind in ("eval", "json"):
        way: dict[str, Any] = {"log_dir": str(folder), "log_format": kind, "max_samples": 1, "display": "none"}
        eval(small_vqa_rad(), model=mock([row[3] for row in VQA], cut=3), **way)
        eval(small_choices(), model=mock([row[3] for row in CHOICES]), **way)


def mock(texts: list[str], cut: int = -1) -> Any:
    """inspect's mock model, which says these texts in turn; the one at `cut` ends at the token limit."""
    from inspect_ai.model import ModelOutput, get_model

    said = [
        ModelOutput.from_content("mockllm/model", text, stop_reason="max_tokens" if i == cut else "stop")
        for i, text in enumerate(texts)
    ]
    return get_model("mockllm/model", custom_outputs=said)


def picture(shade: int) -> str:
    """A small grey picture as a `data:` address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (8, 8), shade).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def make_lmms_eval(folder: Path) -> None:
    """Samples and results of four SLAKE questions."""
    from medrft.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
    from lmms_eval.tasks.slake import utils as slake

    names = ("qid", "question", "answer", "answer_type", "modality", "content_type")
    samples, records = [], []
    for number, row in enumerate(SLAKE):
        doc = {**dict(zip(names, row[:6], strict=True)), "q_lang": "en", "img_name": f"xmlab{number // 2}/source.jpg"}
        marks = slake.slake_process_results(doc, [row[6]])
        records.append(next(iter(marks.values())))
        prompt = slake.slake_doc_to_text(doc, {"post_prompt": POST})
        made = {"doc_id": number, "doc": doc, "target": doc["answer"], "arguments": [prompt, {}]}
        made |= {"resps": [[row[6]]], "filtered_resps": [row[6]], "doc_hash": f"{number:064x}"}
        samples.append({**made, "token_counts": [{"output_tokens": len(row[6].split()) + 1}], **marks})
    figures: dict[str, Any] = {"alias": "slake_en"}
    for name in slake.SLAKE_METRICS:
        figures[f"{name},none"] = getattr(slake, f"slake_aggregate_{name.removeprefix('slake_')}")(records)
        figures[f"{name}_stderr,none"] = "N/A"
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=Qwen/Qwen2-VL-2B-Instruct", "", "", False)
    config = {"slake_en": {"task": "slake_en", "generation_kwargs": {"max_new_tokens": 32}}}
    tracker.save_results_aggregated(
        results={"results": {"slake_en": figures}, "configs": config},
        samples={"slake_en": samples},
        datetime_str=time.strftime("%Y%m%d_%H%M%S"),
    )
    tracker.save_results_samples("slake_en", samples)


class Judge:
    """Stands for VLMEvalKit's judge: an answer is right if the reference occurs in it."""

    def __init__(self, **settings: Any):
        pass

    def working(self) -> bool:
        return True

    def generate(self, prompt: str, **settings: Any) -> str:
        parts = (prompt.rsplit(f"[Begin {part}]", 1)[1].split("[End")[0] for part in ("Ground-Truth", "Response"))
        wanted, said = (part.lower() for part in parts)
        mark, reason = ("yes", "it says so") if wanted in said else ("no", "it says something else")
        return f"[Begin Correctness] {mark} [End Correctness]\n[Begin Reason] {reason} [End Reason]"


def make_vlmevalkit(folder: Path) -> None:
    """Four data sets of one model in a run's folder, evaluated, with the links that its `run.py` lays beside it."""
    root = Path(str(importlib.util.find_spec("vlmeval").submodule_search_locations[0]))  # type: ignore[union-attr]
    # Its packages import every model and API that there is; their modules are taken without that.
    for name, names in (
        ("vlmeval", {}),
        ("vlmeval.api", {}),
        ("vlmeval.dataset", {}),
        ("vlmeval.dataset.utils", {"build_judge": Judge, "DEBUG_MESSAGE": ""}),
    ):
        package = types.ModuleType(name)
        package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
        package.__dict__.update(names)
        sys.modules[name] = package
    import pandas
    from vlmeval.dataset.image_mcq import ImageMCQDataset
    from vlmeval.dataset.image_shortqa import ImageShortQADataset
    from vlmeval.dataset.image_vqa import ImageVQADataset
    from vlmeval.dataset.image_yorn import ImageYORNDataset
    from vlmeval.smp.file import dump

    model, table = "Qwen2-VL-2B-Instruct", pandas.DataFrame
    short = [(i, q, a, s, kind, "test") for i, (q, a, kind, s) in enumerate(VQA)]
    choices = [(i, q, *[*given, None][:3], a, s, "modality") for i, (q, given, a, s) in enumerate(CHOICES)]
    closed = [(i, q, a.capitalize(), s, "chest") for i, (q, a, _, s) in enumerate(VQA[:2])]
    asked = ("index", "question", "answer", "prediction", "category")
    sets = {
        "PathVQA_TEST": (ImageShortQADataset, (*asked, "split"), short),
        "PathMMU_VAL": (
            ImageMCQDataset,
            ("index", "question", "A", "B", "C", "answer", "prediction", "l2-category"),
            choices,
        ),
        "SmallYN": (ImageYORNDataset, asked, closed),
        "GQA_Small": (ImageVQADataset, asked, [row[:5] for row in short]),
    }
    run = folder / model / "T20261130-120000"
    run.mkdir(parents=True)
    for name, (kind, columns, rows) in sets.items():
        file = run / f"{model}_{name}.xlsx"
        data = table(rows, columns=list(columns))
        dump(data, str(file))
        own = kind.__new__(kind)
        own.dataset_name, own.data = name, data.drop(columns="prediction")
        own.evaluate(str(file), model="gpt-4o-mini" if kind is ImageShortQADataset else "exact_matching", nproc=1)
    for file in sorted(run.iterdir()):
        if file.suffix == ".pkl":
            file.unlink()  # what its evaluation goes on from after a kill; nobody should load another's pickle
            continue
        (folder / model / file.name).symlink_to(Path(run.name) / file.name)


MAKERS = {"inspect-ai": make_inspect, "lmms-eval": make_lmms_eval, "vlmevalkit": make_vlmevalkit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluator", choices=sorted(MAKERS))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    MAKERS[options.evaluator](options.folder)


if __name__ == "__main__":
    main()
