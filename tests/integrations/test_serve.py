"""`medrft serve`: the numbers of a call in process, what is refused, what waits, and what outlives the process."""

import base64
import hashlib
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from foreign_rows import COLUMNS, LEARNS, RANKS, REFERENCES, TEXT, completions
from medrft.errors import DataError, RecipeError, RunInUseError
from medrft.integrations import ForeignReward, items_of
from medrft.integrations.client import RewardClient, ServerError
from medrft.integrations.serve import app
from medrft.integrations.serve.reading import Limits, read_score
from medrft.integrations.serve.remember import Answer, Learnt, Ledger, Remembered
from medrft.integrations.serve.server import Serving, find_token, open_reward
from medrft.integrations.serve.worker import Job, Worker
from medrft.rewards.rows import read_row
from score_items import think
from served import Served, ask, serving

ROWS = [{"completion": said, "reference": gold} for said, gold in zip(completions(), REFERENCES, strict=True)]
GROUPED = [{**row, "group": f"q{n // 4}"} for n, row in enumerate(ROWS)]
TOKEN = "t0ken-of-some-length"


def learning(tmp_path, reward=LEARNS):
    """A reward that learns, from nothing, and the file of its state."""
    file = tmp_path / "learns.json"
    file.with_suffix(".yaml").write_text(json.dumps(reward))
    return Serving(reward=str(file.with_suffix(".yaml")), update=True, state=tmp_path / "state.json")


def again(reward, batches):
    """What one reward in this process gives, one batch after the other, and its state."""
    held = ForeignReward(reward, update=True)
    made = [[one.reward for one in held([read_row(r, where="r").item for r in rows])] for rows in batches]
    return made, held.state_dict()


@pytest.mark.parametrize("reward", [TEXT, RANKS], ids=["text", "ranks"])
def test_the_numbers_are_those_of_a_call_in_process(reward):
    held = ForeignReward(reward)
    expected = held(items_of(completions(), COLUMNS), groups=[row["group"] for row in GROUPED])
    with serving(ForeignReward(reward)) as (client, server):
        found = client.score(GROUPED)
        assert found.rewards == pytest.approx([one.reward for one in expected], abs=1e-12)
        for name in held.reward.names:
            assert found.parts[name] == pytest.approx([one.calibrated[name] for one in expected], abs=1e-12)
        assert found.unscored == {} and found.learnt is None
        assert client.health()["counts"]["rows"] == 8 and server.worker.rows == 0


def test_the_encoder_gives_the_same_numbers_whoever_is_scored_together(tmp_path):
    """Rows that are scored together reach the encoder in one batch."""
    pytest.importorskip("torch")
    state = tmp_path / "state.json"
    fit = ForeignReward("armed", update=True)
    items = items_of(completions(), COLUMNS)
    fit.reward.fit(fit.reward.score(items))
    fit.save_state(state)
    expected = [one.reward for one in ForeignReward("armed", state=state)(items)]
    with serving(ForeignReward("armed", state=state)) as (client, server):
        hold(server)
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(client.score, [row]) for row in ROWS]
            until(lambda: server.worker.rows == 8)
            release(server)
            found = [one.result().rewards[0] for one in waiting]
        assert server.worker.counts.calls <= 2
    assert found == pytest.approx(expected, abs=1e-12)


def hold(server):
    """Keep the scoring thread from scoring: it waits for the reward's lock."""
    server.held._lock.acquire()


def release(server):
    server.held._lock.release()


def until(holds, seconds=10):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be so"
        time.sleep(0.005)


@pytest.mark.parametrize("reward", [LEARNS, RANKS], ids=["learns", "ranks"])
def test_what_is_scored_together_is_combined_request_by_request(tmp_path, reward):
    update = reward is LEARNS
    asked = learning(tmp_path, reward)
    held, remembered = open_reward(asked) if update else (ForeignReward(reward), None)
    batches = [GROUPED[:4], GROUPED[4:], GROUPED, GROUPED[2:6]]
    with serving(held, remembered=remembered) as (client, server):
        hold(server)
        waiting = []
        with ThreadPoolExecutor(4) as pool:
            for rows in batches:
                before = server.worker.rows
                waiting.append(pool.submit(client.score, [{**row, "group": "g"} for row in rows]))
                until(lambda before=before: server.worker.rows > before)
            release(server)
            found = [one.result() for one in waiting]
        assert server.worker.counts.calls < len(batches)
        state = client.state()["state"]
    if update:
        expected, learnt = again(LEARNS, batches)
        assert state == json.loads(json.dumps(learnt)) and [one.learnt for one in found] == [1, 2, 3, 4]
    else:
        alone = ForeignReward(RANKS)
        expected = [
            [one.reward for one in alone([read_row(r, where="r").item for r in rows], groups=["g"] * len(rows))]
            for rows in batches
        ]
    for one, numbers in zip(found, expected, strict=True):
        assert one.rewards == pytest.approx(numbers, abs=1e-12)


BAD = [
    (b"not JSON", 400, "the body is not JSON"),
    (b"[" * 100_000, 400, "the body is not JSON"),
    (b'{"rows": [{"completion": "x", "reference": NaN}]}', 400, "not JSON"),
    (b"\xff\xfe{}", 400, "the body is not JSON"),
    ([], 400, "the body is a JSON object, got list"),
    ({}, 400, "`rows` is a list of rows"),
    ({"rows": []}, 400, "`rows` is a list of rows"),
    ({"rows": ROWS, "group": ["a"]}, 400, "unknown key 'group'; known: form, id, learns, rows"),
    ({"rows": ROWS, "form": "long"}, 400, "`form` is one of think, direct, short"),
    ({"rows": ROWS, "learns": 1}, 400, "`learns` is true or false"),
    ({"rows": ROWS, "id": 7}, 400, "`id` is a text"),
    ({"rows": ROWS, "id": "\ud800"}, 400, "`id` is a text"),
    ({"rows": [ROWS[0], "no"]}, 400, "row 1: a row is an object, got str; nothing was scored"),
    ({"rows": [ROWS[0], {"reference": "no"}]}, 400, "row 1: no column for the model's answer"),
    ({"rows": [{"completion": "no"}]}, 400, "row 0: no column for the reference"),
    ({"rows": [{"completion": "no", "reference": {"a": 1}}]}, 400, "row 0: `reference` is"),
    ({"rows": [{"completion": 1.5, "reference": "no", "gruop": 1}]}, 400, "row 0: unknown key 'gruop'"),
    ({"rows": [{**ROWS[0], "kind": "opne"}]}, 400, "did you mean 'open'"),
    ({"rows": [{**ROWS[0], "n_tokens": -1}]}, 400, "row 0: `n_tokens` is a whole number"),
    ({"rows": [{**ROWS[0], "group": [1]}]}, 400, "row 0: `group` is a text or a whole number"),
    ({"rows": [{**ROWS[0], "reference": ["a"] * 300}]}, 400, "lists up to 256 texts, got 300"),
    ({"rows": [{**ROWS[0], "completion": "x" * 300_000}]}, 400, "row 0: its texts have 300002 characters"),
    ({"rows": [{**ROWS[0], "options": [["CT"], "MRI"]}]}, 400, "row 0: `options` is no object, and no list of lists"),
    ({"rows": ROWS * 600}, 413, "up to 4096 rows, got 4800"),
]


def test_bad_requests_are_named_and_nothing_is_scored():
    with serving(ForeignReward(TEXT)) as (client, server):
        for body, status, says in BAD:
            got, told, _ = ask(client, "POST", "/score", body)
            assert (got, says in told["error"]) == (status, True), (body if len(str(body)) < 300 else says, told)
        rows = [ROWS[0], {}, ROWS[1], {"completion": "x", "reference": None}]
        _, told, _ = ask(client, "POST", "/score", {"rows": rows})
        assert set(told["rows"]) == {"1", "3"} and "(and 1 more rows)" in told["error"]
        assert ask(client, "GET", "/score")[0] == 405 and ask(client, "GET", "/")[0] == 404
        assert server.held.counts["rows"] == 0 and server.worker.rows == 0 and server._bytes == 0
        assert client.health()["counts"]["refused"] == {"400": len(BAD), "413": 1}


def test_a_kind_without_an_entry_and_groups_of_one_are_refused():
    with serving(ForeignReward({"closed": TEXT})) as (client, _):
        status, told, _ = ask(client, "POST", "/score", {"rows": [{**ROWS[0], "kind": "open"}]})
        assert status == 400 and "row 0: the reward has no entry for kind 'open'" in told["error"]
    with serving(ForeignReward(RANKS)) as (client, _):
        assert "give `group`" in ask(client, "POST", "/score", {"rows": ROWS})[1]["error"]
        rows = [*GROUPED[:5], {**GROUPED[5], "group": None}]
        assert "row 5: the reward compares" in ask(client, "POST", "/score", {"rows": rows})[1]["error"]
        assert "group 'q1' holds one" in ask(client, "POST", "/score", {"rows": GROUPED[:5]})[1]["error"]
        assert "one row a request" in ask(client, "POST", "/get_reward", {})[1]["error"]


def test_what_is_too_much_is_refused_with_429_and_comes_later():
    limits = Limits(queue_rows=8, body_bytes=4000, queue_bytes=6000)
    with serving(ForeignReward(TEXT), limits=limits) as (client, server):
        status, told, headers = ask(client, "POST", "/score", {"rows": [{**ROWS[0], "question": "x" * 5000}]})
        assert status == 413 and "up to 4000 bytes" in told["error"] and headers["Connection"] == "close"
        hold(server)
        with ThreadPoolExecutor(4) as pool:
            first = pool.submit(client.score, ROWS[:6])
            until(lambda: server.worker.rows == 6)
            status, told, headers = ask(client, "POST", "/score", {"rows": ROWS[:4]})
            assert status == 429 and int(headers["Retry-After"]) >= 1 and "6 rows wait already" in told["error"]
            later = pool.submit(client.score, ROWS[:4])
            time.sleep(0.2)
            release(server)
            assert len(first.result().rewards) == 6 and len(later.result().rewards) == 4
        assert client.health()["counts"]["refused"]["429"] >= 2 and server.worker.rows == 0


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(app, "READ_S", 0.2)
    with serving(ForeignReward(TEXT)) as (client, server):
        host, _, port = client.place.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as slow, slow.makefile("rb") as answer:
            slow.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{")
            assert answer.readline().startswith(b"HTTP/1.1 408 ")
        with socket.create_connection((host, int(port)), timeout=20) as gone:
            gone.sendall(b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n{")
        assert len(client.score(ROWS).rewards) == 8
        until(lambda: server._bytes == 0)


def test_a_token_is_asked_for_everywhere():
    with serving(ForeignReward(TEXT), token=TOKEN) as (client, _):
        assert len(client.score(ROWS).rewards) == 8
        basic = base64.b64encode(f"user:{TOKEN}".encode()).decode()
        for path, method in [("/score", "POST"), ("/get_reward", "POST"), ("/health", "GET"), ("/state", "GET")]:
            for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic %"}, {"Authorization": TOKEN}):
                assert ask(client, method, path, **header)[0] == 401
        for header in (f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Basic {basic}"):
            assert ask(client, "GET", "/health", Authorization=header)[0] == 200
        with pytest.raises(ServerError, match="401: this server asks for its token"):
            RewardClient(client.place, token="another").score(ROWS)


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Host": "["}, {"Host": "127.0.0.1.evil.example"}, {"Origin": "http://evil.example"}],
)
def test_without_a_token_a_page_in_a_browser_is_not_served(headers):
    with serving(ForeignReward(TEXT)) as (client, _):
        assert ask(client, "POST", "/score", {"rows": ROWS}, **headers)[0] == 403


def test_other_machines_need_a_token(monkeypatch):
    monkeypatch.delenv("MEDRFT_TOKEN", raising=False)
    assert find_token("127.0.0.1", None) is None
    for host in ("0.0.0.0", "::", "10.0.0.5", ""):
        with pytest.raises(RecipeError, match=r"a token is needed: set MEDRFT_TOKEN, .*; or stay on 127.0.0.1"):
            find_token(host, None)
    with pytest.raises(RecipeError, match="--token-env MINE: it is not set"):
        find_token("127.0.0.1", "MINE")
    monkeypatch.setenv("MINE", "short")
    with pytest.raises(RecipeError, match="16 characters or more"):
        find_token("127.0.0.1", "MINE")
    monkeypatch.setenv("MINE", TOKEN)
    assert find_token("0.0.0.0", "MINE") == TOKEN


def test_unscored_is_null_or_the_chosen_number():
    reward = {"parts": [{"scorer": "choice_match", "weight": 1.0}]}
    rows = [{"completion": think("CT"), "reference": gold, "options": ["CT", "MRI"]} for gold in ("CT", "PET")]
    with serving(ForeignReward(reward)) as (client, _):
        found = client.score(rows)
        assert found.rewards == [1.0, None] and found.unscored == {1: "unscored: choice_match"}
        assert client.health()["counts"]["reward"] == {"rows": 2, "unscored": 1, "unscored: choice_match": 1}
    with serving(ForeignReward(reward, unscored=-1.0)) as (client, _):
        found = client.score(rows)
        assert found.rewards == [1.0, -1.0] and set(found.unscored) == {1}


FAILS = '''
class Fails:
    """Fails on some texts, and on others in a way that nobody foresaw."""
    name, range, needs = "fails", (0.0, 1.0), ()
    def applies(self, item):
        return True
    def __call__(self, items):
        if any("boom" in (item.completion or "") for item in items):
            raise ValueError("could not read boom")
        return [1.0] * len(items)
'''


def test_a_scorer_that_fails_leaves_its_rows_unscored_and_is_counted(tmp_path):
    (tmp_path / "mine.py").write_text(FAILS)
    reward = {"parts": [{"scorer": f"{tmp_path / 'mine.py'}:Fails", "weight": 1.0}]}
    rows = [{"completion": think(text), "reference": "no"} for text in ("fine", "boom", "fine")]
    with serving(ForeignReward(reward)) as (client, _), pytest.warns(UserWarning, match="1 of 3 unscored"):
        found = client.score(rows)
        assert found.rewards == [1.0, None, 1.0] and "could not read boom" in found.unscored[1]
        assert client.health()["counts"]["reward"]["unscored"] == 1


def test_a_reward_that_breaks_on_one_request_answers_the_others():
    held = ForeignReward(TEXT)
    score = held.reward.score

    def breaks(items):
        if any(item.question == "break" for item in items):
            raise RuntimeError("out of memory")
        return score(items)

    object.__setattr__(held.reward, "score", breaks)  # as an encoder whose GPU is full
    with serving(held) as (client, server):
        hold(server)
        with ThreadPoolExecutor(2) as pool:
            good, bad = pool.submit(client.score, ROWS), pool.submit(client.score, [{**ROWS[0], "question": "break"}])
            until(lambda: server.worker.rows == 9)
            release(server)
            assert len(good.result().rewards) == 8
            with pytest.raises(ServerError, match="the reward failed: RuntimeError: out of memory"):
                bad.result()
        assert client.health()["counts"]["failed"] == 1


def test_a_request_that_comes_again_is_answered_again_and_teaches_nothing(tmp_path):
    held, remembered = open_reward(learning(tmp_path))
    with serving(held, remembered=remembered) as (client, server):
        first = client.score(ROWS, id="a")
        state = client.state()
        assert client.score(ROWS, id="a") == first and client.state() == state
        with pytest.raises(ServerError, match="409: another request had this `id`"):
            client.score(ROWS[:4], id="a")
        assert client.score(ROWS, id="b").learnt == 2
        hold(server)
        with ThreadPoolExecutor(3) as pool:  # twice while it waits: one job
            both = [pool.submit(client.score, ROWS[:5], id="c") for _ in range(3)]
            until(lambda: server.repeated == 3)
            release(server)
            assert len({str(one.result()) for one in both}) == 1
        health = client.health()
        assert health["learnt"] == {"batches": 3, "rows": 21} and health["counts"]["repeated"] == 3
        assert client.score(ROWS, learns=False).learnt is None and client.health()["learnt"]["batches"] == 3


def test_a_learning_server_wants_ids_and_batches(tmp_path):
    held, remembered = open_reward(learning(tmp_path))
    with serving(held, remembered=remembered) as (client, _):
        assert "needs an `id`" in ask(client, "POST", "/score", {"rows": ROWS})[1]["error"]
        assert "one row is none" in ask(client, "POST", "/score", {"rows": ROWS[:1], "id": "a"})[1]["error"]
        assert "start it without --update" in ask(client, "POST", "/get_reward", {})[1]["error"]
        assert len(client.score(ROWS[:1], learns=False).rewards) == 1


def test_old_answers_are_forgotten_in_memory_and_on_disk(tmp_path):
    ledger = Ledger(tmp_path / "s.served")
    remembered = Remembered(rows=10, ledger=ledger)
    for n in range(6):
        learns = n % 3 != 2
        answer = Answer(id=f"r{n}", digest="d", rows=4, body=b"{}", learnt=learns)
        remembered.add([answer], Learnt(document={}, batches=n) if learns else None)
    kept = [n for n in range(6) if remembered.find(f"r{n}")]
    assert kept == [4, 5] and [one.id for one in ledger.answers()] == ["r3", "r4"]  # r3 goes with the next commit
    remembered.add([Answer(id="r6", digest="d", rows=4, body=b"{}", learnt=True)], Learnt(document={}, batches=6))
    assert [one.id for one in ledger.answers()] == ["r4", "r6"] or [one.id for one in ledger.answers()] == ["r6"]


def test_a_disk_that_is_full_teaches_nothing(tmp_path, monkeypatch):
    held, remembered = open_reward(learning(tmp_path))
    with serving(held, remembered=remembered) as (client, _):
        client.score(ROWS, id="a")
        state = client.state()
        assert remembered.ledger is not None
        pages = remembered.ledger._db.execute("PRAGMA page_count").fetchone()[0]
        remembered.ledger._db.execute(f"PRAGMA max_page_count={pages}")
        big = [ROWS[n % 8] for n in range(4000)]
        status, told, headers = ask(client, "POST", "/score", {"rows": big, "id": "b"})
        assert status == 503 and "disk is full" in told["error"] and headers["Retry-After"] == "5"
        assert client.state() == state and client.health()["learnt"]["batches"] == 1
        remembered.ledger._db.execute("PRAGMA max_page_count=100000")
        assert client.score(big, id="b").learnt == 2


def test_the_state_goes_on_where_a_server_ended(tmp_path):
    asked = learning(tmp_path)
    held, remembered = open_reward(asked)
    with serving(held, remembered=remembered, state=asked.state) as (client, _):
        first = client.score(ROWS, id="a")
    with pytest.raises(RunInUseError, match="in use by another server"):
        open_reward(asked)
    remembered.ledger.close()
    held, remembered = open_reward(asked)
    with serving(held, remembered=remembered, state=asked.state) as (client, _):
        assert client.score(ROWS, id="a") == first
        second = client.score(GROUPED[:5], id="b")
    remembered.ledger.close()
    expected, state = again(LEARNS, [ROWS, ROWS[:5]])
    assert [first.rewards, second.rewards] == expected and second.learnt == 2
    saved = json.loads(asked.state.read_text())
    assert saved["state"] == json.loads(json.dumps(state)) and saved["rows"] == 13
    fixed = ForeignReward(asked.reward, state=asked.state)  # the file is a state as any other
    assert fixed.state_dict() == state


def test_what_was_learnt_but_not_answered_is_answered_later(tmp_path):
    """The moment that a kill can hit: the batch is on disk, and its answer has not left."""
    asked = learning(tmp_path)
    held, remembered = open_reward(asked)
    worker = Worker(held, deliver=lambda jobs: None, remembered=remembered, limits=Limits())
    body = json.dumps({"id": "a", "rows": ROWS, "learns": True}).encode()
    job = Job(read_score(body, form="think", limits=Limits()), hashlib.blake2b(body, digest_size=16).hexdigest())
    worker._work([job])
    remembered.ledger.close()
    held, remembered = open_reward(asked)
    with serving(held, remembered=remembered) as (client, _):
        found = client.score(ROWS, id="a")
        assert json.loads(job.result)["rewards"] == found.rewards and found.learnt == 1
        assert client.health()["learnt"] == {"batches": 1, "rows": 8}


@pytest.mark.parametrize(
    ("do", "error", "says"),
    [
        (lambda state: state.write_text(json.dumps({"medrft_state": 1})), DataError, "was put beside"),
        (lambda state: Path(f"{state}.served").write_bytes(b"x" * 5000), DataError, "is no file of medrft serve"),
    ],
)
def test_a_state_that_is_another_is_refused(tmp_path, do, error, says):
    asked = learning(tmp_path)
    held, remembered = open_reward(asked)
    with serving(held, remembered=remembered, state=asked.state) as (client, _):
        client.score(ROWS, id="a")
    remembered.ledger.close()
    do(asked.state)
    with pytest.raises(error, match=says):
        open_reward(asked)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reward": "text", "update": True, "state": Path("s.json")}, "has no calibration that learns"),
        ({"reward": "armed_clinical", "update": True}, "--update needs --state FILE"),
    ],
)
def test_an_update_that_could_not_work_is_refused(change, says):
    with pytest.raises(RecipeError, match=says):
        open_reward(Serving(**change))


REMOTE = [
    ("<|im_start|>user\nAny?<|im_end|>" + think("no") + "<|im_end|>", "<|im_start|>user\nAny?<|im_end|>", "no"),
    ("Which?" + think("CT"), "Which?", '{"reference": "MRI", "options": ["CT", "MRI"]}'),
    ("Which?" + think("CT"), "Which?", '{"reference": "PET", "options": ["CT", "MRI"]}'),
]


def test_get_reward_as_openrlhf_asks():
    reward = {
        "closed": {"parts": [{"scorer": "yes_no_match", "weight": 0.8}, {"scorer": "answer_format", "weight": 0.2}]},
        "choice": {"parts": [{"scorer": "choice_match", "weight": 1.0}]},
    }
    query, prompts, labels = (list(column) for column in zip(*REMOTE, strict=True))
    with serving(ForeignReward(reward)) as (client, _):
        status, many, _ = ask(client, "POST", "/get_reward", {"query": query, "prompts": prompts, "labels": labels})
        assert status == 200 and many["rewards"] == many["scores"] == [1.0, 0.0, 0.0]
        assert many["extra_logs"]["unscored"] == [0.0, 0.0, 1.0]
        one = {"query": query[:1], "prompts": prompts[:1], "labels": labels[:1]}
        assert ask(client, "POST", "/get_reward", one)[1] == {
            "rewards": 1.0,
            "scores": 1.0,
            "extra_logs": {"unscored": 0.0, "yes_no_match": 1.0, "answer_format": 1.0, "choice_match": 0.0},
        }
        for bad, says in [
            ({"query": query}, "are lists of one length"),
            ({"query": [], "prompts": [], "labels": []}, "are lists of one length"),
            ({**one, "labels": [None]}, "row 0: `reference` is a string"),
            ({**one, "query": [1]}, "row 0: query and prompt are texts"),
        ]:
            status, told, _ = ask(client, "POST", "/get_reward", bad)
            assert status == 400 and says in told["error"]


def test_rows_are_logged_only_where_that_is_asked_for(tmp_path, capfd):
    log = tmp_path / "rows.jsonl"
    odd = [{"completion": "SECRET-\ud800", "reference": "no"}]
    with serving(ForeignReward(TEXT)) as (client, _):
        client.score(odd)
        ask(client, "POST", "/score", {"rows": [{"completion": ["SECRET"], "reference": ["SECRET", 1, {}]}]})
    said = capfd.readouterr()
    assert "SECRET" not in said.out + said.err
    with serving(ForeignReward(TEXT), log_rows=log) as (client, _):
        client.score(odd)
    assert json.loads(log.read_text())["completion"] == "SECRET-\ud800"


def test_a_process_stops_in_order_and_is_killed_without_loss(tmp_path):
    """SIGTERM while requests wait, SIGKILL under load, and Ctrl-C: each batch is answered and learnt once."""
    asked = learning(tmp_path)
    token = "a-t0ken-that-nobody-may-see"
    words = (asked.reward, "--update", "--state", str(asked.state))
    with Served(*words, env={"MEDRFT_TOKEN": token}) as server:
        client = RewardClient(server.url, token=token, patience=60)
        found: dict[int, object] = {}

        def work(worker):
            for n in range(worker, 160, 8):
                found[n] = client.score([ROWS[(n + i) % 8] for i in range(2 + n % 5)])

        with ThreadPoolExecutor(8) as pool:
            done = [pool.submit(work, worker) for worker in range(8)]
            until(lambda: len(found) > 30, 60)
            assert server.end(signal.SIGTERM) == 0
            server.start()
            until(lambda: len(found) > 80, 60)
            server.end(signal.SIGKILL)
            server.start()
            for one in done:
                one.result()
        assert client.health()["learnt"]["batches"] == 160
        state = client.state()
        assert server.end(signal.SIGINT) == 0
        said = "".join(server.lines)
        assert token not in said and "with a token" in said and "stopped after" in said
    order = sorted(found, key=lambda n: found[n].learnt)
    assert [found[n].learnt for n in order] == list(range(1, 161))
    expected, learnt = again(LEARNS, [[ROWS[(n + i) % 8] for i in range(2 + n % 5)] for n in order])
    assert [found[n].rewards for n in order] == [pytest.approx(numbers, abs=1e-12) for numbers in expected]
    assert state["state"] == json.loads(json.dumps(learnt)) == json.loads(asked.state.read_text())["state"]


def test_on_the_command_line(tmp_path, capfd, monkeypatch):
    from medrft.cli.main import main

    for words, says in [
        (["text", "--host", "0.0.0.0"], "lets other machines in, so a token is needed"),
        (["text", "--form", "long"], "unknown form 'long'"),
        (["text", "--unscored", "nan"], "--unscored is a finite number"),
        (["armed_clinical"], "no state: row by row"),
        (["text", "--update"], "has no calibration that learns"),
        (["txet"], "did you mean 'text'"),
        (["text", "--host", "192.0.2.1", "--token-env", "MINE"], "cannot listen at http://192.0.2.1:8421"),
    ]:
        monkeypatch.setenv("MINE", TOKEN)
        monkeypatch.delenv("MEDRFT_TOKEN", raising=False)
        monkeypatch.setattr("sys.argv", ["medrft", "serve", *words])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 2
        said = capfd.readouterr().err
        assert says in said and said.count("\n") == 1 and "Traceback" not in said


def test_many_threads_get_their_own_numbers():
    held = ForeignReward(TEXT)
    expected = {n: [one.reward for one in held(items_of(completions(), COLUMNS)[: n + 1])] for n in range(8)}
    with serving(ForeignReward(TEXT)) as (client, server), ThreadPoolExecutor(16) as pool:
        jobs = [(n % 8, pool.submit(client.score, ROWS[: n % 8 + 1])) for n in range(200)]
        assert all(job.result().rewards == expected[n] for n, job in jobs)
        counts = server.worker.counts
        assert counts.requests == 200 and threading.active_count() < 40
