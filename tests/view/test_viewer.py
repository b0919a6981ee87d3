"""The rollout viewer through its own door: the command in a process of its own, asked over HTTP and by a browser."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from statistics import median
from urllib.parse import quote, urlencode, urlsplit

import pytest
from made_run import HOSTILE, make_run
from starlette.testclient import TestClient

from browser import NEEDS_CHROMIUM, browse
from medrft.report import rollout_groups
from medrft.report.rollout_groups import CHOICES, ORDERS, PAGE, Asked
from medrft.rundir import RunDir
from medrft.store import RolloutWriter, read_rollouts
from medrft.view.app import RolloutViewer

LONG = "lung " * 20_000
MEAN = [
    HOSTILE,
    '<svg onload="document.title=1"><a href="javascript:alert(1)">x</a></svg>"><script src="http://127.0.0.1/x.js"></script>',
    "\x1b[2J\x1b]0;owned\x07 \x00 \u202eesrever\u202c \u2066x \ud7ff",
    LONG,
]
"""Completions of a model that would like to do more than be read."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with validation that got worse on one question, an unscored group, and a hostile group of step 500."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "made", examples=12, steps=60)
    first = read_rollouts(folder, "SELECT * FROM rollouts WHERE sample < 4 ORDER BY generation_step, group_id LIMIT 4")
    rows = [
        {**row, "question": HOSTILE, "references": [HOSTILE], "completion": text, "answer": text, "kind": "open"}
        for row, text in zip(first, MEAN, strict=True)
    ]
    _write(folder, "train", 500, [{**row, "reward": None, "unscored_reason": f"bertscore: {HOSTILE}"} for row in rows])
    good = [{**row, "example_id": "toy/validation/1", "truth": True, "correct": True} for row in first]
    for turn, right in ((0, True), (1, True), (2, False)):
        _write(folder, "validation", turn, [{**row, "truth": right, "correct": right} for row in good])
    return folder


def _write(folder, split, turn, rows):
    writer = RolloutWriter(folder / "rollouts", stage="grpo", split=split, parts=tuple(rows[0]["raw"]))
    place = {"split": split, "step": turn, "generation_step": turn, "group_id": f"grpo/{split}/{turn}/0"}
    writer.write([{**row, **place, "sample": i} for i, row in enumerate(rows)], group_size=len(rows))
    writer.flush()


class Viewer:
    """`medrft rollouts RUN --browse` in a process of its own."""

    def __init__(self, run, *words):
        command = [sys.executable, "-m", "medrft", "rollouts", str(run), "--browse", "--port", "0", *words]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"})
        self.said = self.process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", self.said)
        assert found, self.said + self.process.stderr.read()
        self.address, self.port, self.key = found[0], int(found[1]), found[2]

    def get(self, query="", *, path=None, method="GET", **headers):
        """Status, text and headers of one request; headers by names with underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        place = f"/{self.key}/?{query}" if path is None else path.format(key=self.key)
        connection.request(method, place, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace"), answer.headers

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=10) == 0
        self.process.stderr.close()


@pytest.fixture(scope="module")
def viewer(run):
    started = Viewer(run)
    yield started
    started.stop()


@pytest.fixture
def inside(run):
    """The same routes in this process."""
    return TestClient(RolloutViewer(run, key="k").app, base_url="http://127.0.0.1")


def groups_on(text):
    """Example ids and steps of the groups on a page, in order."""
    return re.findall(r"step (\d+)[^<]*(?:mean reward)[^<]*<code>([^<]+)</code>", text)


def count_on(text):
    found = re.search(r"<h2>([\d,]+) group", text)
    return int(found[1].replace(",", "")) if found else 0


def rows_by_group(run):
    groups = {}
    for row in read_rollouts(run, "SELECT * FROM rollouts ORDER BY group_id, sample"):
        groups.setdefault(row["group_id"], []).append(row)
    return groups


def right(row):
    return row["correct"] if row["truth"] is None else row["truth"]


def wanted(run, show):
    """The groups that a choice should find, found again without SQL."""
    groups = rows_by_group(run)
    rows = [row for group in groups.values() for row in group]
    paid = {}
    for row in rows:
        if right(row) and row["reward"] is not None:
            paid.setdefault((row["stage"], row["split"], row["kind"]), []).append(row["reward"])

    def hacked(row):
        level = paid.get((row["stage"], row["split"], row["kind"]))
        return not right(row) and row["reward"] is not None and level and row["reward"] >= median(level)

    def turned(group):
        def share(other):
            return sum(map(right, other)) / len(other)

        before = [
            other
            for other in groups.values()
            if other[0]["example_id"] == group[0]["example_id"]
            and other[0]["split"] == group[0]["split"]
            and other[0]["generation_step"] < group[0]["generation_step"]
        ]
        return share(group) < 0.5 and any(share(other) >= 0.5 for other in before)

    def equal(group):
        found = [row["reward"] for row in group if row["reward"] is not None]
        return bool(found) and max(found) - min(found) < 1e-6

    tests = {
        "all": lambda group: True,
        "turned_wrong": turned,
        "hacked": lambda group: any(map(hacked, group)),
        "unscored": lambda group: any(row["reward"] is None for row in group),
        "no_spread": equal,
        "no_answer": lambda group: any(row["answer"] is None for row in group),
        "cut_off": lambda group: any(row["truncated"] for row in group),
    }
    return {name for name, group in groups.items() if tests[show](group)}


@pytest.mark.parametrize("show", CHOICES)
def test_each_choice_finds_its_groups(viewer, run, show):
    status, text, _ = viewer.get(f"show={show}")
    assert status == 200
    assert count_on(text) == len(wanted(run, show))


def test_the_run_has_groups_for_the_choices(run):
    """Else the test above would compare nothing with nothing."""
    assert wanted(run, "turned_wrong") == {"grpo/validation/2/0"}
    assert wanted(run, "unscored") == {"grpo/train/500/0"}
    assert wanted(run, "hacked") and wanted(run, "cut_off")


@pytest.mark.parametrize(
    ("order", "of", "falls"),
    [
        ("newest", lambda group: group.step, True),
        ("oldest", lambda group: group.step, False),
        ("longest", lambda group: max(shown.row["n_tokens"] for shown in group.completions), True),
        ("highest", lambda group: group.mean, True),
        ("lowest", lambda group: group.mean, False),
        ("spread", lambda group: group.spread, True),
    ],
)
def test_orders(run, order, of, falls):
    values = [of(group) for group in rollout_groups.find_groups(run, Asked(order=order)).groups]
    known = [value for value in values if value is not None]
    assert len(values) == PAGE and known == sorted(known, reverse=falls)
    assert set(ORDERS) == {"newest", "oldest", "longest", "highest", "lowest", "spread"}


def test_conditions_pages_and_marks(viewer, run):
    status, text, _ = viewer.get(urlencode({"where": "sample = 1 AND kind = 'closed'", "split": "train"}))
    assert status == 200 and 'class="completion fits"' in text
    assert text.count('class="completion fits"') == len(groups_on(text))
    _, everything, _ = viewer.get()
    assert 'class="completion fits"' not in everything
    _, second, _ = viewer.get("page=2")
    assert groups_on(second) and not set(groups_on(second)) & set(groups_on(everything))
    assert "page 2 of" in second and 'href="?page=3"' in second and 'href="?"' in second
    assert "No group on this page" in viewer.get("page=9999")[1]
    assert "No group fits" in viewer.get("where=reward>7")[1]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("rewrd < 0.1", "not found in FROM clause"),
        ("true) UNION SELECT (true", "DuckDB refused"),
        ("true; DROP VIEW rollouts", "DuckDB refused"),
        ("(SELECT count(*) FROM read_text('/etc/passwd')) > 0", "Cannot access file"),
        ("(SELECT count(*) FROM glob('/*')) > 0", "DuckDB refused"),
        ("getenv('HOME') = 'x'", "DuckDB refused"),
        ("reward <", "syntax error"),
        (HOSTILE, "DuckDB refused"),
    ],
)
def test_a_refused_condition_is_told_on_the_page(viewer, where, said):
    status, text, _ = viewer.get(urlencode({"where": where}))
    assert status == 400 and "Nothing is shown" in text and said in text
    assert HOSTILE not in text
    assert viewer.get()[0] == 200


def test_a_slow_condition_is_stopped(inside, monkeypatch):
    monkeypatch.setattr(rollout_groups, "SECONDS", 0.5)
    answer = inside.get("/k/", params={"where": "(SELECT count(*) FROM range(1000000000000)) > 0"})
    assert answer.status_code == 400 and "took more than 0.5 seconds and was stopped" in answer.text


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("show=everything", "unknown view"),
        ("order=up", "unknown view"),
        ("page=x", "groups"),
        ("page=9999999", "a page is a number"),
    ],
)
def test_addresses_typed_by_hand(viewer, query, said):
    status, text, _ = viewer.get(query)
    assert status in (200, 400) and said in text


def test_only_this_machine_with_the_key(viewer):
    assert viewer.get(path="/")[0] == 404
    assert viewer.get(path="/wrong/")[0] == 404
    for host in ("evil.example", f"evil.example:{viewer.port}", "127.0.0.1.evil.example", "10.0.0.1", "["):
        status, text, _ = viewer.get(Host=host)
        assert status == 403 and "rollouts" not in text
    for host in (f"localhost:{viewer.port}", "127.0.0.1", "[::1]"):
        assert viewer.get(Host=host)[0] == 200
    for site in ("cross-site", "same-site"):
        assert viewer.get(Sec_Fetch_Site=site)[0] == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert viewer.get(method=method)[0] == 405


def test_headers_forbid_scripts_frames_and_other_sites(viewer):
    for path in ("/{key}/", "/{key}/style.css", "/nothing/", "/{key}/image/x", "/{key}/text?sample=x"):
        _, _, headers = viewer.get(path=path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin" and "server" not in headers


def test_pictures_and_whole_texts(viewer, run):
    _, text, _ = viewer.get()
    sha256 = re.search(r'src="image/(\w{64})"', text)[1]
    status, _, headers = viewer.get(path=f"/{{key}}/image/{sha256}")
    assert (status, headers["content-type"]) == (200, "image/png")
    for wrong in ("0" * 63 + "z", quote("../recipe.yaml", safe=""), "x"):
        assert viewer.get(path=f"/{{key}}/image/{wrong}")[0] == 404
    whole = urlencode({"group_id": "grpo/train/500/0", "sample": 3})
    status, text, headers = viewer.get(path=f"/{{key}}/text?{whole}")
    assert (status, text, headers["content-type"]) == (200, LONG, "text/plain; charset=utf-8")
    assert viewer.get(path="/{key}/text?group_id=x&sample=1")[0] == 404
    assert viewer.get(path="/{key}/text?group_id=x&sample=1e9")[0] == 400


def test_nothing_a_model_wrote_acts(viewer):
    status, text, _ = viewer.get("show=unscored")
    assert status == 200 and HOSTILE not in text and "&lt;script&gt;alert(" in text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert "␛[2J" in text and "⟨U+202E⟩" in text
    assert "96,000 more characters" in text and "the whole text" in text and len(text) < 1_000_000
    assert not re.search(r"<script|<svg[^>]*onload|href=.javascript", text)


def test_following_the_training(tmp_path):
    """A run that has only begun has a page; what is written next is on the next one."""
    run = make_run(tmp_path / "run", examples=2, steps=6)
    later = tmp_path / "later"
    (run / "rollouts").rename(later)
    inside = TestClient(RolloutViewer(run, key="k").app, base_url="http://127.0.0.1")
    page = inside.get("/k/?live=1").text
    assert "No rollouts are on the disk yet" in page and 'http-equiv="refresh" content="10"' in page
    assert "Groups without spread" in page  # the curves
    later.rename(run / "rollouts")
    assert "<strong>32</strong> rollouts, up to step" in inside.get("/k/").text
    RunDir(run).append_metrics("grpo", {"split": "train", "step": 7, "reward": 123.0})
    assert "123" in inside.get("/k/").text
    (run / "rollouts" / "grpo-train-000007.parquet").write_bytes(b"PAR1 cut")
    damaged = inside.get("/k/")
    assert damaged.status_code == 400 and "grpo-train-000007.parquet" in damaged.text


def test_the_condition_of_the_command_is_in_the_address(run):
    started = Viewer(run, "--where", "reward < 0.1 AND kind = 'open'")
    address = re.search(r"http://\S+", started.said)[0]
    assert started.get(urlsplit(address).query)[0] == 200 and "reward+%3C+0.1" in address
    started.stop()


@NEEDS_CHROMIUM
@pytest.mark.parametrize("query", ["", "show=unscored", "show=hacked&order=longest&live=1", "where=rewrd"])
def test_a_browser_has_nothing_to_complain_of(viewer, tmp_path, query):
    dom, console = browse(f"{viewer.address}?{query}", tmp_path / "profile")
    assert [line for line in console if "status of 400" not in line] == []
    assert "<title>made · rollouts</title>" in dom
    assert "<script" not in dom and " onerror=" not in re.sub(r">[^<]*<", "><", dom)


@NEEDS_CHROMIUM
def test_a_page_elsewhere_cannot_show_it(viewer, tmp_path):
    page = tmp_path / "evil.html"
    page.write_text(f'<iframe src="{viewer.address}"></iframe><img src="{viewer.address}style.css">')
    dom, _ = browse(page.as_uri(), tmp_path / "profile")
    assert "medrft rollouts" not in dom
