"""Curation from pairs to rows: rules, files, going on after a kill, a teacher behind an endpoint."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from loopback import Answer, Loopback, say
from medrft.curation.curate import check_kept, curate, made_with, taught_examples
from medrft.curation.writers import find_policy, find_teacher, make_writer
from medrft.data import read_data
from medrft.errors import DataError, EndpointError, ModelError, RecipeError, RunExistsError, UnknownNameError
from medrft.pipeline.run import run_recipe
from medrft.recipes import parse_recipe
from medrft.report.curation import write_sheet
from medrft.report.html import draw_evenly
from medrft.report.results import rivals_of
from medrft.rundir import read_growing, read_json, read_jsonl
from medrft.types import Completion, Example
from toys import TABLE

NASTY = "</pre><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
RECIPE = parse_recipe(
    {
        **TABLE,
        "curate": {"tau": 3, "clusters": 2, "tries": 3},
        "correct": {"scorer": "exact_match"},
        "eval": {"batch_size": 4, "max_new_tokens": 32},
    }
)


def asked(root: Path, number: int, question: str, answer: str) -> Example:
    return Example(
        id=f"toy/train/{number}",
        dataset="toy",
        split="train",
        images=(root / f"{number}.png",),
        question=question,
        references=(answer,),
        kind="closed" if answer in ("yes", "no") else "open",
        metadata={"modality": "CT"},
    )


@pytest.fixture
def pairs(tmp_path, image_file):
    questions = [
        *(("Is the liver normal?", "yes"), ("Is there a mass?", "yes"), ("Is a cyst present?", "yes")),
        *(("Is the spleen large?", "yes"), ("Is there ascites?", "yes"), ("Where is the mass?", "left lobe")),
        *(("Which organ is abnormal?", "spleen"), ("What is seen?", NASTY), ("Is this an MRI?", "no")),
    ]
    for number in range(len(questions)):
        image_file(tmp_path / "data" / f"{number}.png", number * 20)
    return [asked(tmp_path / "data", number, *pair) for number, pair in enumerate(questions)]


def form(thought: str, answer: str) -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


@dataclass
class Scripted:
    """A writer whose words a test chooses by example and try; the seed of a batch is all that it is told."""

    says: object
    whole: bool = True
    identity: dict = field(default_factory=lambda: {"model": "scripted", "weights": "0"})
    calls: list = field(default_factory=list)
    stop_at: int | None = None

    def __call__(self, examples, *, seed):
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(([e.id for e in examples], seed))
        earlier = [name for names, _ in self.calls[:-1] for name in names]
        return [Completion(text=self.says(e, earlier.count(e.id)), n_tokens=9, truncated=False) for e in examples]


def good(example, number=0):
    return form(f"Looking for an answer to it: {example.question} One sees it at once.", example.references[0])


def files(folder):
    names = ("curated.jsonl", "dropped.jsonl", "tries.jsonl", "manifest.json")
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def test_thoughts_are_kept_and_counted(pairs, tmp_path):
    manifest = curate(pairs, RECIPE, writer=Scripted(good), output=tmp_path / "out")
    assert manifest["thinning"]["frequent"] == [{"answer": "yes", "rows": 5, "kept": 2}]
    assert manifest["thinning"]["thinned_out"] == 3 and manifest["thinning"]["long_tail"] == 4
    assert manifest["result"] == {"kept": 6, "without_thought": 0, "kinds": {"closed": 3, "open": 3}}
    rows = list(read_jsonl(tmp_path / "out" / "curated.jsonl"))
    assert [row["try"] for row in rows] == [1] * 6
    assert read_json(tmp_path / "out" / "manifest.json") == manifest
    kept = taught_examples(pairs, tmp_path / "out")
    assert [e.id for e in kept] == [row["id"] for row in rows] and all(e.rationale for e in kept)


BAD = {
    "form": "I think yes.",
    "short": form("It is.", "{}"),
    "leak": form("The reference answer says so, and one can see it.", "{}"),
    "incorrect": form("One sees it at once in the picture.", "something else"),
    "form ": form("In the <image> one sees it at once.", "{}"),  # training would look for one more picture
    "contradiction": form("One sees it at once. So the answer is no.", "{}"),
}


@pytest.mark.parametrize("rule", BAD)
def test_each_rule_drops_and_another_try_is_made(pairs, tmp_path, rule):
    def says(example, number):
        return bad.format(example.references[0]) if number == 0 else good(example)

    bad, rule = BAD[rule], rule.strip()
    chosen = pairs[:2] if rule == "contradiction" else pairs
    manifest = curate(chosen, RECIPE, writer=Scripted(says), output=tmp_path / "out")
    first = manifest["tries"][0]
    assert first["dropped"][rule] == first["asked"] and first["kept"] == 0
    assert manifest["tries"][1]["kept"] == first["asked"]
    assert {row["try"] for row in read_jsonl(tmp_path / "out" / "curated.jsonl")} == {2}


def test_truncated_is_dropped(pairs, tmp_path):
    class Cut(Scripted):
        def __call__(self, examples, *, seed):
            return [replace(one, truncated=True) for one in super().__call__(examples, seed=seed)]

    out = tmp_path / "out"
    manifest = curate(pairs, RECIPE, writer=Cut(good), output=out)
    assert manifest["rules"]["truncated"] == 18
    with pytest.raises(DataError, match=r"none of 6 pairs got a thought .*: 18"):
        check_kept(manifest, out)
    assert curate(pairs, RECIPE, writer=Cut(good, stop_at=0), output=out, resume=True) == manifest  # nobody is asked


def test_near_identical_thoughts_of_other_questions_are_dropped(pairs, tmp_path):
    def says(example, number):
        return form("The image shows what the question is about, clearly.", example.references[0])

    manifest = curate(pairs, RECIPE, writer=Scripted(says), output=tmp_path / "out")
    assert manifest["result"]["kept"] == 1 and manifest["rules"]["near_identical"] == 5 * 3
    rows = list(read_jsonl(tmp_path / "out" / "dropped.jsonl"))
    assert [[one["rule"] for one in row["tries"]] for row in rows] == [["near_identical"] * 3] * 5


def unsteady(example, number):
    """Right on the third try at the latest."""
    wrong = sum(map(ord, example.id)) % 3 > number
    return form(f"One sees it for {example.question} at once.", "wrong" if wrong else example.references[0])


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3])
def test_killed_and_resumed_is_the_same(pairs, tmp_path, stop_at):
    recipe = RECIPE.model_copy(update={"eval": RECIPE.eval.model_copy(update={"batch_size": 2})})
    whole = Scripted(unsteady)
    curate(pairs, recipe, writer=whole, output=tmp_path / "one")
    with pytest.raises(KeyboardInterrupt):
        curate(pairs, recipe, writer=Scripted(unsteady, stop_at=stop_at), output=tmp_path / "two")
    tries = tmp_path / "two" / "tries.jsonl"
    if tries.is_file():  # the kill fell into a write
        text = tries.read_text()
        tries.write_text(text[: len(text) - 30])
    before = len(list(tmp_path.glob("two/tries.jsonl")))
    number = [0]

    def says(example, _):
        done = list(read_growing(tries))
        number[0] += 1
        return unsteady(example, sum(row["id"] == example.id for row in done))

    went_on = Scripted(says)
    curate(pairs, recipe, writer=went_on, output=tmp_path / "two", resume=True)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert before == 0 or len(went_on.calls) <= len(whole.calls)
    assert [call for call in went_on.calls if call not in whole.calls] == []  # same batches, same seeds


def test_finished_is_left_alone_and_other_settings_are_refused(pairs, tmp_path):
    out = tmp_path / "out"
    curate(pairs, RECIPE, writer=Scripted(good), output=out)
    with pytest.raises(RunExistsError, match="already holds a curation"):
        curate(pairs, RECIPE, writer=Scripted(good), output=out)
    idle = Scripted(good)
    curate(pairs, RECIPE, writer=idle, output=out, resume=True)
    assert idle.calls == []
    other = RECIPE.model_copy(update={"seed": 1})
    with pytest.raises(RecipeError, match="seed was 0, now 1"):
        curate(pairs, other, writer=Scripted(good), output=out, resume=True)
    with pytest.raises(RecipeError, match="rows was 9, now 8"):
        curate(pairs[:-1], RECIPE, writer=Scripted(good), output=out, resume=True)
    (out / "tries.jsonl").unlink()  # not needed any more
    with pytest.raises(RunExistsError, match="already holds a curation"):
        curate(pairs, other, writer=Scripted(good), output=out)
    (tmp_path / "busy").mkdir()
    (tmp_path / "busy" / "notes.txt").write_text("mine")
    with pytest.raises(RunExistsError, match="holds files but no manifest"):
        curate(pairs, RECIPE, writer=Scripted(good), output=tmp_path / "busy")


def test_a_mistake_before_the_first_thought_blocks_nothing(pairs, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        curate(pairs, RECIPE, writer=Scripted(good, stop_at=0), output=out)
    other = RECIPE.model_copy(update={"seed": 1})
    assert curate(pairs, other, writer=Scripted(good), output=out)["seed"] == 1


def test_a_changed_setting_is_named(pairs, tmp_path):
    curate(pairs, RECIPE, writer=Scripted(good), output=tmp_path / "out")
    other = RECIPE.model_copy(update={"curate": RECIPE.curate.model_copy(update={"tau": 4})})
    with pytest.raises(RecipeError, match=r"otherwise: curate\.tau was 3, now 4; choose"):
        curate(pairs, other, writer=Scripted(good), output=tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("manifest.json", "[]", "not the manifest of a curation"),
        ("tries.jsonl", '{"id": "toy/train/0"}\n', "row 1: no 'text'; take that line out"),
    ],
)
def test_a_damaged_file_is_named(pairs, tmp_path, name, text, error):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        curate(pairs, RECIPE, writer=Scripted(good, stop_at=1), output=out)
    (out / name).write_text(text)
    with pytest.raises(DataError, match=error):
        curate(pairs, RECIPE, writer=Scripted(good), output=out, resume=True)


@pytest.mark.parametrize("change", [{"options": ("a", "b")}, {"kind": "open"}, {"references": ("no",)}])
def test_the_key_sees_all_that_is_asked(pairs, change):
    before, after = (made_with([pair], RECIPE, Scripted(good)) for pair in (pairs[0], replace(pairs[0], **change)))
    assert [key for key in before if before[key] != after[key]] == ["data"]


def test_nothing_left_to_ask(pairs, tmp_path):
    table = {**RECIPE.model_dump(mode="json"), "curate": {"tau": 50, "long_tail": "drop"}}
    with pytest.raises(DataError, match=r"lower curate\.tau"):
        curate(pairs, parse_recipe(table), writer=Scripted(good), output=tmp_path / "out")


def test_rows_are_read_by_the_table_loader(pairs, tmp_path):
    out = tmp_path / "data" / "out"
    curate([*pairs[5:7], pairs[8]], RECIPE, writer=Scripted(good), output=out)
    loaded = read_data("table", out / "curated.jsonl", options={"image_root": "/"})
    assert len(loaded.examples) == 3 and loaded.report.left_out == ()
    for example, pair in zip(loaded.examples, [*pairs[5:7], pairs[8]], strict=True):
        assert example.question == pair.question and example.references == pair.references
        assert example.kind == pair.kind and example.images[0].resolve() == pair.images[0].resolve()
        assert example.rationale and example.metadata["modality"] == "CT"


def replying(request, number) -> Answer:
    text = "".join(block.get("text", "") for block in request.body["messages"][-1]["content"])
    question = text.rpartition("\n")[2]
    answer = {"Where is the mass?": "left lobe", "Which organ is abnormal?": "spleen"}.get(question, "yes")
    return say(form(f"One looks at the image for this: {question} It is there.", answer))


def teacher(server, pairs):
    return make_writer(find_teacher(RECIPE, url=server.url, model="big"), RECIPE, pairs)


def test_teacher_sees_images_and_the_question_alone(pairs, tmp_path):
    with Loopback(replying) as server:
        writer = teacher(server, pairs)
        manifest = curate(pairs, RECIPE, writer=writer, output=tmp_path / "out")
    assert manifest["writer"] == {"model": "big", "endpoint": True}
    assert manifest["result"]["kept"] == 4  # not the two whose answer it does not know
    assert manifest["tries"][1]["asked"] == 2
    for request in server.seen:
        content = request.body["messages"][-1]["content"]
        images = [block["image_url"]["url"] for block in content if block["type"] == "image_url"]
        assert len(images) == 1 and images[0].startswith("data:image/png;base64,")
        assert "left lobe" not in json.dumps(content) and request.body["temperature"] == 0.7
    assert len({request.body["seed"] for request in server.seen}) >= 3  # another try is another request


def test_teacher_that_fails_stops_and_goes_on(pairs, tmp_path):
    def flaky(request, number):
        return replying(request, number) if number < 2 else Answer(status=400, body=b"{}")

    out = tmp_path / "out"
    with Loopback(flaky) as server, pytest.raises(EndpointError, match="go on with --resume"):
        curate(pairs, RECIPE, writer=teacher(server, pairs), output=out)
    saved = len(list(read_jsonl(out / "tries.jsonl")))
    assert saved == 2
    with Loopback(replying) as server:
        curate(pairs, RECIPE, writer=teacher(server, pairs), output=out, resume=True)
        assert len(server.seen) == 6 - saved + 2 + 2  # the rest of try 1, then two more tries for two pairs
    with Loopback(replying) as server:
        curate(pairs, RECIPE, writer=teacher(server, pairs), output=tmp_path / "one")
    texts = [
        {(row["id"], row["rationale"]) for row in read_jsonl(tmp_path / name / "curated.jsonl")}
        for name in ("out", "one")
    ]
    assert texts[0] == texts[1]


def nasty(example, number):
    return form(
        f"{NASTY} {example.question} and so on.", example.references[0] if number or example.id[-1] != "8" else "x"
    )


def test_sheet_is_escaped_and_self_contained(pairs, tmp_path):
    out = tmp_path / "out"
    never = [replace(pairs[6], id="toy/train/99", references=("never",))]
    curate(
        [*pairs, *never],
        RECIPE,
        writer=Scripted(lambda e, n: form(NASTY, "x") if e in never else nasty(e, n)),
        output=out,
    )
    page = write_sheet(out, images=True, seed=0).read_text(encoding="utf-8")
    assert "document.title" in page and "{{ 7 * 7 }}" in page  # shown, as text
    assert "<script" not in page and "<img src=x" not in page
    addresses = re.findall(r"""(?:src|href)=["']([^"'#]+)""", page)
    assert len(addresses) == 1 + 7 and all(address.startswith("data:") for address in addresses)
    assert "answer not correct" in page and not re.search(r"https?://", page)
    bare = write_sheet(out, images=False, seed=0).read_text(encoding="utf-8")
    assert "data:image" not in bare


def test_sheet_without_a_vanished_image(pairs, tmp_path):
    curate(pairs, RECIPE, writer=Scripted(good), output=tmp_path / "out")
    for pair in pairs:
        pair.images[0].unlink()
    assert "cannot be opened" in write_sheet(tmp_path / "out", images=True, seed=0).read_text()


def test_drawn_evenly_over_the_rules():
    cards = [{"state": "form"}] * 30 + [{"state": "leak"}] * 3
    drawn = draw_evenly(cards, 10, seed=0, key=lambda card: card["state"])
    assert [card["state"] for card in drawn].count("leak") == 3 and len(drawn) == 10


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here; install chromium to run browser tests")
def test_sheet_fits_a_phone(pairs, tmp_path):
    curate(pairs, RECIPE, writer=Scripted(good), output=tmp_path / "out")
    page = write_sheet(tmp_path / "out", images=True, seed=0)
    shot = tmp_path / "phone.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    command = ["chromium", *flags, "--window-size=500,900", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert shot.stat().st_size > 5_000


ROAD = {
    **TABLE,
    "name": "road",
    "data": {**TABLE["data"], "images": 8, "validation_images": 2, "test_images": 2},
    "stages": [
        {
            "name": "first",
            "kind": "sft",
            "trl": {"max_steps": 60, "per_device_train_batch_size": 8, "learning_rate": 5e-3},
        },
        {
            "name": "armed_a",
            "kind": "sft",
            "curate": "first",
            "start": "base",
            "trl": {"max_steps": 1, "per_device_train_batch_size": 4},
        },
    ],
    # A model of this size is hardly ever right: any answer to an open question is, to test the road.
    "correct": {"scorer": "bleu1", "at_least": 0.0},
    "curate": {"tau": 2, "clusters": 2, "tries": 2, "temperature": 0.3},
    "eval": {"limit": 2, "batch_size": 16, "max_new_tokens": 64, "base": "skip", "controls": []},
}


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    monkey = pytest.MonkeyPatch()
    monkey.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield run_recipe(parse_recipe(ROAD), output=tmp_path_factory.mktemp("runs") / "road")
    monkey.undo()


def test_a_stage_trains_on_what_the_one_before_it_wrote(road):
    (folder,) = (road.path / "curated").iterdir()
    assert folder.name.startswith("first-") and (folder / "sheet.html").is_file()
    manifest, record = read_json(folder / "manifest.json"), read_json(road.stage("armed_a") / "stage.json")
    assert manifest["thinning"]["frequent"] and manifest["result"]["kept"] > 0
    assert manifest["result"]["true_by_phantom"] <= manifest["result"]["kept"]
    assert record["status"] == "done" and record["start"] == "base"
    assert record["curated"]["rows"] == manifest["result"]["kept"] == record["examples"]["train"]
    assert record["curated"]["folder"] == f"curated/{folder.name}"
    assert (
        f"written by first for {record['curated']['rows']} of {record['curated']['of']} rows"
        in road.report.read_text(encoding="utf-8")
    )


def test_the_report_sets_the_last_stage_beside_the_one_that_wrote():
    recipe = parse_recipe(
        {
            **ROAD,
            "stages": [
                {"name": "armed_i", "kind": "grpo"},
                {"name": "armed_a", "kind": "sft", "curate": "armed_i", "start": "base"},
                {"name": "armed_r", "kind": "grpo"},
            ],
        }
    )
    run = SimpleNamespace(
        recipe=recipe, evaluations={"phantom": {name: {"results": {}} for name in ("armed_i", "armed_a", "armed_r")}}
    )
    rivals = [rival.name for rival in rivals_of(run, "phantom", "armed_r")]
    assert rivals[:2] == ["armed_a, which it started from", "armed_i, whose thoughts armed_a learned"]


def test_a_second_run_does_nothing_and_another_setting_is_refused(road):
    (folder,) = (road.path / "curated").iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    run_recipe(parse_recipe(ROAD), output=road.path, resume=True)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    with pytest.raises(RecipeError, match=r"curate\.tau was 2, now 5"):
        run_recipe(parse_recipe({**ROAD, "curate": {**ROAD["curate"], "tau": 5}}), output=road.path, resume=True)


def test_the_command_takes_a_runs_stage(road, tmp_path):
    recipe = parse_recipe(ROAD)
    assert find_policy(str(road.path), recipe).source.endswith("armed_a/final")  # the last one that is finished
    train = [e for e in read_data("phantom", None, options=recipe.data.options).examples if e.split == "train"]
    writer = make_writer(find_policy(f"{road.path}:first", recipe), recipe, train)
    manifest = curate(train, recipe, writer=writer, output=tmp_path / "out")
    (folder,) = (road.path / "curated").iterdir()
    ours = (folder / "curated.jsonl").read_text()
    assert manifest["result"] == read_json(folder / "manifest.json")["result"]
    assert (tmp_path / "out" / "curated.jsonl").read_text() == ours


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ("{run}:grpo", "unknown stage of .* 'grpo'.*armed_a, base, first"),
        ("{run}/stages", "holds no model"),
        ("/nowhere/model", "no policy at /nowhere/model"),
        ("runs/nowhere:armed_i", "no policy at runs/nowhere:armed_i"),
        ("", "no policy at ''"),
        ("tiny:llava", "random until it is trained"),
    ],
)
def test_what_is_no_policy(road, policy, error):
    with pytest.raises((DataError, UnknownNameError, ModelError), match=error):
        find_policy(policy.format(run=road.path), parse_recipe(ROAD))
