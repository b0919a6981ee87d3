"""The client that is one file: the rows it sends, what it does while a server is away, and each trainer's call."""

import ast
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from foreign_rows import COLUMNS, REFERENCES, TEXT, completions
from loopback import Answer, Loopback
from medrft.integrations import ForeignReward, client, items_of, verl
from medrft.integrations.client import RewardClient, ServerError, register_reward, rows_of, trl_reward
from medrft.integrations.trl import TrlReward
from medrft.listening import bound_socket
from medrft.rewards.contracts import USUAL_COLUMNS
from medrft.rewards.rows import read_row
from score_items import think
from served import serving

ROWS = [{"completion": said, "reference": gold} for said, gold in zip(completions(), REFERENCES, strict=True)]


def test_it_is_one_file_that_needs_nothing(tmp_path):
    shutil.copy(client.__file__, tmp_path / "reward_client.py")
    ast.parse(Path(client.__file__).read_text(), feature_version=(3, 8))
    code = (
        f"import sys; before = set(sys.modules); sys.path.insert(0, {str(tmp_path)!r}); import reward_client as m; "
        "new = [sys.modules[name] for name in set(sys.modules) - before]; "
        "print([m for m in new if 'site-packages' in (getattr(m, '__file__', '') or '')]); "
        "print(m.RewardClient(sys.argv[1]).score([{'completion': '<answer>no</answer>', 'reference': 'no'}]).rewards)"
    )
    with serving(ForeignReward({"parts": [{"scorer": "exact_match", "weight": 1.0}]}), form="direct") as (served, _):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code, served.place], capture_output=True, text=True, check=True
        )
    assert done.stdout == "[]\n[1.0]\n"


def test_columns_are_found_by_the_names_that_adapters_know():
    found = {"references": client.REFERENCE, "question": client.QUESTION, "options": client.OPTIONS, "kind": ("kind",)}
    assert [(name, field) for field, names in found.items() for name in names] == list(USUAL_COLUMNS.items())


TABLES = [
    ({"solution": ["no", "CT"], "problem": ["Any?", "Which?"]}, {}),
    ({"references": [["CT", "computed tomography"], ["no"]], "reference": ["x", "y"]}, {}),
    ({"answer": ['["CT", "MRI"]', "[no list"], "choices": ['["CT", "MRI"]', None], "kind": ["open", ""]}, {}),
    ({"gold": ["no", 7], "answer": ["x", "y"], "options": [(), ("CT", "7")]}, {"references": "gold"}),
    ({"label": np.array(["no", "yes"]), "options": [np.array(["no", "yes"]), []]}, {}),
]


@pytest.mark.parametrize(("columns", "names"), TABLES)
def test_rows_are_the_items_that_adapters_make(columns, names):
    said = ["<think>x</think><answer>no</answer>", [{"role": "assistant", "content": "<answer>CT</answer>"}]]
    ours = items_of(said, columns, names=names, n_tokens=[3, 4])
    rows = json.loads(json.dumps(rows_of(said, columns, **names, n_tokens=[3, 4])))
    rows = [{**row, "completion": row["completion"] if n == 0 else "<answer>CT</answer>"} for n, row in enumerate(rows)]
    assert [read_row(row, where="r").item for row in rows] == [replace(item, metadata={}) for item in ours]


def test_columns_without_references_are_refused():
    with pytest.raises(ServerError, match="no column of references among text; name it: references="):
        rows_of(["a"], {"text": ["b"]})
    with pytest.raises(ServerError, match="no column of references"):
        rows_of(["a"], {"solution": ["b"]}, references="gold")


def test_as_trl_calls_it():
    given = {**COLUMNS, "prompts": ["?"] * 8, "completion_ids": [[1, 2]] * 8, "images": [object()] * 8}
    given |= {"trainer_state": object(), "question": [None] * 8}
    messages = [[{"role": "assistant", "content": text}] for text in completions()]
    expected = TrlReward(TEXT)(completions=messages, **given)
    modes = []
    with serving(ForeignReward(TEXT)) as (served, server):
        reward = trl_reward(served.place, learns=lambda: bool(modes.append(1)))
        assert reward(completions=messages, **given) == expected and reward.__name__ == "medrft_served"
        assert reward(messages, **given) == expected and modes == [1, 1]
        assert server.worker.counts.requests == 2


def test_as_swift_calls_it(monkeypatch):
    module = ModuleType("swift.rewards")
    module.ORM, module.orms = type("ORM", (), {"__init__": lambda self, args=None, **_: None}), {}
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", module)
    with serving(ForeignReward(TEXT)) as (served, _):
        register_reward("medrft", served.place)
        made = module.orms["medrft"](args=object())
        found = made(completions(), **COLUMNS, prompt_id=["a"] * 8, response_token_ids=[[1]] * 8)
    assert found == [one.reward for one in ForeignReward(TEXT)(items_of(completions(), COLUMNS))]


LABELS = [
    ("no", {"question": "Any?"}),
    ('{"reference": "MRI", "options": ["CT", "MRI"]}', {}),
    (["CT", "computed tomography"], {"medrft": json.dumps({"options": ["CT", "MRI"]})}),
    ("PET", {"options": np.array(["CT", "MRI"])}),
    ("CT", {"medrft": json.dumps({"references": ["CT", "computed tomography"], "options": [], "kind": "open"})}),
]


def loaded_as_verl_does(path):
    """From a file, and never entered in `sys.modules`."""
    spec = spec_from_file_location("custom_module", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("gold", "extra"), LABELS)
def test_as_verl_calls_it(gold, extra):
    reward = {
        "closed": TEXT,
        "choice": {"parts": [{"scorer": "choice_match", "weight": 1.0}]},
        "open": TEXT,
    }
    given = {"data_source": "chest", "ground_truth": gold, "extra_info": {"index": 0, **extra}, "unscored": -1.0}
    said = think("computed tomography")
    with serving(ForeignReward(reward)) as (served, _):
        found = loaded_as_verl_does(client.__file__).compute_score(
            solution_str=said, url=served.place, reward_router_address=None, **given
        )
    assert found == verl.compute_score(solution_str=said, reward=reward, **given)


def good(request):
    n = len(request.body["rows"])
    made = {"id": request.body["id"], "rewards": [1.0] * n, "parts": {}, "unscored": {}, "learnt": None}
    return Answer(body=json.dumps(made).encode())


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(how="drop"),
        Answer(status=429, body=b'{"error": "full"}', headers={"Retry-After": "0"}),
        Answer(status=503, body=b"<html>"),
        Answer(status=502),
        Answer(body=b"no JSON"),
        Answer(body=b"[]"),
        Answer(how="hang"),
    ],
    ids=["drop", "429", "503", "502", "no JSON", "list", "hang"],
)
def test_a_request_is_sent_again_under_the_same_id(trouble):
    with Loopback(lambda request, number: trouble if number < 2 else good(request)) as server:
        found = RewardClient(server.url, timeout=0.3, patience=20).score(ROWS)
        assert found.rewards == [1.0] * 8 and len(server.seen) == 3
        assert len({request.body["id"] for request in server.seen}) == 1 and server.seen[0].path == "/v1/score"


@pytest.mark.parametrize(
    ("answer", "says", "asked"),
    [
        (Answer(status=400, body=b'{"error": "row 3: no"}'), "refused the request, 400: row 3: no", 1),
        (Answer(status=401, body=b'{"error": "token"}'), "401: token", 1),
        (Answer(status=404, body=b"<html>not here"), "404: <html>not here", 1),
        (Answer(status=500, body=b'{"error": "the reward failed: x"}'), "the reward failed: x", 1),
        (Answer(body=b'{"id": "x", "rewards": []}'), "answered another request than the one sent", 1),
        (Answer(status=503), "gave no answer in .* attempts; the last: 503", None),
        (Answer(how="drop"), "gave no answer in .* attempts; the last: RemoteDisconnected", None),
    ],
)
def test_what_is_not_answered_raises(answer, says, asked):
    with Loopback(lambda request, number: answer) as server:
        with pytest.raises(ServerError, match=says):
            RewardClient(server.url, patience=0.5).score(ROWS)
        assert asked in (None, len(server.seen))


def test_no_server_at_all():
    with pytest.raises(ServerError, match=r"gave no answer in .* attempts; the last: ConnectionRefusedError"):
        RewardClient("http://127.0.0.1:9", patience=0.3).score(ROWS)
    for url in ("127.0.0.1:8421", "ftp://host", "http://"):
        with pytest.raises(ServerError, match="the server's address is http://HOST:PORT"):
            RewardClient(url)
    with pytest.raises(ServerError, match="the token holds other characters"):
        RewardClient("http://127.0.0.1:9", token="tök")
    assert RewardClient("http://127.0.0.1:9").score([]).rewards == []


def test_forked_and_pickled_clients_have_connections_of_their_own():
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with serving(ForeignReward(TEXT)) as (served, _):
        expected = served.score(ROWS)  # this thread's connection is open now, and each child has a copy of it
        children = [context.Process(target=lambda: results.put(served.score(ROWS))) for _ in range(4)]
        for child in children:
            child.start()
        mine = [served.score(ROWS) for _ in range(20)]
        theirs = [results.get(timeout=30) for _ in children]
        for child in children:
            child.join()
        assert mine == [expected] * 20 and theirs == [expected] * 4
        assert pickle.loads(pickle.dumps(served)).score(ROWS) == expected


def test_it_waits_for_a_server_that_comes_back(caplog):
    with bound_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
    found = []
    waiting = RewardClient(f"http://127.0.0.1:{port}", patience=30)
    thread = threading.Thread(target=lambda: found.append(waiting.score(ROWS).rewards))
    thread.start()
    deadline = time.monotonic() + 20
    while "gives no answer yet (ConnectionRefusedError" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with Loopback(lambda request, number: good(request), port=port):
        thread.join(30)
    assert found == [[1.0] * 8]
