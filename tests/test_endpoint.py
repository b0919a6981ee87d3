from __future__ import annotations

import json
import pickle
import socket
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loopback import Answer, Loopback, say
from medrft.endpoint import Endpoint, Reply
from medrft.errors import EndpointError, RecipeError

QUICK = {"backoff": 0.0, "timeout": 5.0}
SECRET = "sk-not-a-real-key-123"


def talk(text):
    return [{"role": "user", "content": text}]


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def endpoint_at(server, **options):
    return Endpoint(model="toy", base_url=server.url, **{**QUICK, **options})


def test_a_request_as_the_server_sees_it():
    with Loopback(lambda request, n: say("Yes.", usage=(17, 3))) as server:
        endpoint = endpoint_at(server, body={"top_k": 1})
        [reply] = endpoint.ask([talk("Is it?")], max_tokens=8)
    assert reply == Reply(text="Yes.", finish="stop", prompt_tokens=17, completion_tokens=3)
    [seen] = server.seen
    assert seen.path == "/v1/chat/completions"
    assert "authorization" not in seen.headers
    assert seen.body == {"model": "toy", "messages": talk("Is it?"), "temperature": 0.0, "max_tokens": 8, "top_k": 1}


def test_the_whole_address_and_the_newer_limit_are_taken_too():
    with Loopback(lambda request, n: say("Yes.")) as server:
        endpoint = Endpoint(
            model="toy", base_url=server.url + "/chat/completions/", body={"max_completion_tokens": 9}, **QUICK
        )
        assert isinstance(endpoint.ask([talk("a")], max_tokens=8)[0], Reply)
    assert server.seen[0].path == "/v1/chat/completions"
    assert "max_tokens" not in server.seen[0].body


def test_replies_keep_their_order_and_equal_requests_are_sent_once():
    with Loopback(lambda request, n: say(request.body["messages"][0]["content"].upper())) as server:
        endpoint = endpoint_at(server, price_in=1.0, price_out=10.0)
        said = ["c", "a", "b", "a", "c", "a"]
        first = endpoint.ask([talk(text) for text in said], max_tokens=8)
        again = endpoint.ask([talk("a")], max_tokens=8)
    assert [reply.text for reply in first] == [text.upper() for text in said]
    assert [reply.cached for reply in first] == [False, False, False, True, True, True]
    assert again[0].cached and len(server.seen) == 3
    counts = endpoint.counts
    assert (counts.requests, counts.cached, counts.sent, counts.failed) == (7, 4, 3, 0)
    assert (counts.prompt_tokens, counts.completion_tokens) == (30, 6)
    assert counts.cost == pytest.approx((30 * 1 + 6 * 10) / 1e6)


def test_at_most_so_many_run_at_once():
    together = threading.Barrier(3, timeout=10)  # each waits for two others: fewer at once would break it

    def answer(request, n):
        together.wait()
        return say("ok")

    with Loopback(answer) as server:
        replies = endpoint_at(server, concurrency=3).ask([talk(str(n)) for n in range(12)], max_tokens=8)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert server.most == 3


@pytest.mark.parametrize(
    "failures",
    [
        [Answer(429, headers={"Retry-After": "0"})],
        [Answer(429), Answer(503)],
        [Answer(500, b"oops"), Answer(502, b"<html>")],
        [Answer(408)],
        [Answer(how="drop")],
        [Answer(how="hang")],
        [Answer(body=b"cut short", headers={"Content-Length": "999"}, how="drip")],
    ],
    ids=lambda failures: "-".join(f"{answer.status}{answer.how}" for answer in failures),
)
def test_what_passes_is_tried_again(failures):
    with Loopback(lambda request, n: failures[n] if n < len(failures) else say("YES")) as server:
        endpoint = endpoint_at(server, timeout=0.3)
        [reply] = endpoint.ask([talk("a")], max_tokens=8)
    assert reply.text == "YES"
    assert endpoint.counts.sent == len(failures) + 1 and endpoint.counts.failed == 0


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(400, b'{"error": "too long"}'), "HTTP 400"),
        (Answer(401, b"who are you"), "HTTP 401: who are you"),
        (Answer(404), "HTTP 404: empty body"),
        (Answer(302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 302"),  # a key goes nowhere else
        (Answer(body=b""), "malformed"),
        (Answer(body=b"<html>hello\x1b[31m</html>"), "malformed reply: <html>hello [31m</html>"),
        (Answer(body=b'{"choices": [{"message": {"content": "YES"'), "malformed"),
        (Answer(body=b'{"choices": []}'), "malformed"),
        (Answer(body=b'{"choices": [{"text": "YES"}]}'), "malformed"),
        (Answer(body=b'{"choices": [{"message": {"content": 1}}]}'), "content is not text"),
        (Answer(body=b"[" * 100_000), "malformed"),
        (Answer(body=b" " * (4 * 1024 * 1024 + 1)), "malformed reply: over"),
        (Answer(429, headers={"Retry-After": "3600"}), "asks to wait 3600 s"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value.status}-{value.body[:12]!r}",
)
def test_what_does_not_pass_fails_at_once(answer, told):
    with Loopback(lambda request, n: answer) as server:
        endpoint = endpoint_at(server)
        [error] = endpoint.ask([talk("a")], max_tokens=8)
    assert isinstance(error, EndpointError) and told in str(error)
    assert "\x1b" not in str(error) and "\n" not in str(error) and len(str(error)) < 250
    assert len(server.seen) == 1 and endpoint.counts.failed == 1


def test_it_gives_up_after_its_retries():
    with Loopback(lambda request, n: Answer(503, b"busy")) as server:
        [error] = endpoint_at(server, retries=2).ask([talk("a")], max_tokens=8)
    assert str(error) == "HTTP 503: busy (3 attempts)"
    assert len(server.seen) == 3


def test_retry_after_is_waited_for():
    with Loopback(lambda request, n: say("YES") if n else Answer(429, headers={"Retry-After": "0.3"})) as server:
        start = time.monotonic()
        endpoint_at(server).ask([talk("a")], max_tokens=8)
        assert 0.3 <= time.monotonic() - start < 3


def test_a_server_that_drips_is_cut_off():
    slow = Answer(body=b" " * 10_000, how="drip")
    with Loopback(lambda request, n: slow) as server:
        start = time.monotonic()
        [error] = endpoint_at(server, timeout=0.3, retries=0).ask([talk("a")], max_tokens=8)
        assert time.monotonic() - start < 5
    assert str(error) == "time-out after 0.3 s"


def test_one_outage_costs_one_answer():
    with Loopback(lambda request, n: say("YES") if "good" in request.text else Answer(500)) as server:
        replies = endpoint_at(server, retries=0).ask([talk("good 1"), talk("bad"), talk("good 2")], max_tokens=8)
    assert [isinstance(reply, Reply) for reply in replies] == [True, False, True]


def test_a_dead_server_is_not_asked_for_the_whole_batch():
    endpoint = Endpoint(model="toy", base_url=f"http://127.0.0.1:{closed_port()}/v1", retries=1, backoff=0.0)
    errors = endpoint.ask([talk(str(n)) for n in range(100)], max_tokens=8)
    assert all(isinstance(error, EndpointError) for error in errors)
    assert "cannot connect" in str(errors[0]) and "is down" in str(errors[-1])
    assert endpoint.counts.sent < 40 and endpoint.counts.failed == 100


def test_bad_requests_do_not_stop_the_good_ones():
    with Loopback(lambda request, n: say("YES") if "good" in request.text else Answer(400)) as server:
        asked = [talk(f"bad {n}") for n in range(30)] + [talk("good")]
        assert endpoint_at(server).ask(asked, max_tokens=8)[-1].text == "YES"


def test_replies_are_kept_on_disk(tmp_path):
    with Loopback(lambda request, n: say(f"reply {n}")) as server:
        ask = lambda **options: endpoint_at(server, cache_dir=str(tmp_path), **options)  # noqa: E731
        assert ask().ask([talk("a")], max_tokens=8)[0].text == "reply 0"
        kept = ask()
        assert kept.ask([talk("a")], max_tokens=8)[0] == Reply(
            text="reply 0", finish="stop", prompt_tokens=10, completion_tokens=2, cached=True
        )
        assert (kept.counts.cached, kept.counts.sent, kept.counts.prompt_tokens) == (1, 0, 0)
        # Whatever changes the request is another request.
        assert ask().ask([talk("a")], max_tokens=9)[0].text == "reply 1"
        assert ask().ask([talk("a")], max_tokens=8, temperature=0.5)[0].text == "reply 2"
        assert ask(body={"seed": 1}).ask([talk("a")], max_tokens=8)[0].text == "reply 3"
        files = sorted(tmp_path.rglob("*.json"))
        assert len(files) == 4 and all(len(json.loads(path.read_text())) == 2 for path in files)
        for path, broken in zip(files, ("", "{", '{"reply": {"text": 3}}', "[]"), strict=True):
            path.write_text(broken)
        assert not ask().ask([talk("a")], max_tokens=8)[0].cached  # broken files are asked again


@pytest.mark.parametrize("answer", [Answer(500), say(""), say(None), Answer(body=b"{}")], ids=lambda a: str(a.body))
def test_failures_and_silence_are_not_kept(tmp_path, answer):
    with Loopback(lambda request, n: say("YES") if n else answer) as server:
        endpoint = endpoint_at(server, cache_dir=str(tmp_path), retries=0)
        endpoint.ask([talk("a")], max_tokens=8)
        assert endpoint.ask([talk("a")], max_tokens=8)[0].text == "YES"


def test_a_cache_that_cannot_be_written_loses_no_reply(tmp_path):
    (tmp_path / "file").write_text("")
    with Loopback(lambda request, n: say("YES")) as server:
        endpoint = endpoint_at(server, cache_dir=str(tmp_path / "file"))
        with pytest.warns(UserWarning, match="no cache of replies"):
            assert endpoint.ask([talk("a")], max_tokens=8)[0].text == "YES"


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_KEY", SECRET)
    answers = [say("YES"), Answer(401, f"Incorrect API key provided: {SECRET}".encode())]
    with Loopback(lambda request, n: answers[n]) as server:
        endpoint = endpoint_at(server, api_key_env="TOY_KEY", cache_dir=str(tmp_path))
        endpoint.ask([talk("a")], max_tokens=8)
        [error] = endpoint.ask([talk("b")], max_tokens=8)
    assert server.seen[0].headers["authorization"] == f"Bearer {SECRET}"
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for text in (written, repr(endpoint).encode(), pickle.dumps(endpoint), str(error).encode()):
        assert SECRET.encode() not in text
    assert "***" in str(error)


@pytest.mark.parametrize("value", [None, "", "two words", "schlüssel", "line\nbreak"])
def test_a_missing_or_impossible_key_is_told_without_it(monkeypatch, value):
    monkeypatch.delenv("TOY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TOY_KEY", value)
    with pytest.raises(RecipeError, match="TOY_KEY") as raised:
        Endpoint(model="toy", base_url="http://127.0.0.1:1/v1", api_key_env="TOY_KEY").ask([talk("a")], max_tokens=8)
    assert not value or value not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": ""}, "needs a model"),
        ({"base_url": "localhost:8000/v1"}, "http://"),
        ({"base_url": "ftp://host/v1"}, "http://"),
        ({"base_url": "http://user:pass@host/v1"}, "no user"),
        ({"base_url": "http://host/v1?key=abc"}, "no user"),
        ({"api_key_env": "sk-123"}, "name of an environment variable"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1.5}, "whole"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "60"}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"body": {"temperature": 1}}, "'temperature'"),
        ({"body": {"stop": {"set"}}}, "JSON"),
    ],
)
def test_options_that_cannot_work_are_refused(options, told):
    with pytest.raises(RecipeError, match=told) as raised:
        Endpoint(**{"model": "toy", "base_url": "http://127.0.0.1:1/v1", **options})
    assert "sk-123" not in str(raised.value) and "pass" not in str(raised.value).replace("password", "")


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": "7"}, {"prompt_tokens": True}])
def test_tokens_that_were_not_counted_are_counted_as_such(usage):
    with Loopback(lambda request, n: say("YES", usage=usage)) as server:
        endpoint = endpoint_at(server)
        endpoint.ask([talk("a")], max_tokens=8)
    assert (endpoint.counts.uncounted, endpoint.counts.prompt_tokens, endpoint.counts.cost) == (1, 0, None)


def test_it_survives_pickling_without_its_memory():
    with Loopback(lambda request, n: say("YES")) as server:
        endpoint = endpoint_at(server)
        endpoint.ask([talk("a")], max_tokens=8)
        other = pickle.loads(pickle.dumps(endpoint))
        assert other == endpoint
        assert not other.ask([talk("a")], max_tokens=8)[0].cached


@pytest.fixture(scope="module")
def parrot():
    """A server that answers with the bytes it is sent."""
    with Loopback(lambda request, n: Answer(body=bytes.fromhex(request.text))) as server:
        yield server


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "x"]), inner, max_size=4)
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_reply_or_an_error(parrot, body):
    [answer] = endpoint_at(parrot).ask([talk(body.hex())], max_tokens=8)
    assert isinstance(answer, Reply | EndpointError)
