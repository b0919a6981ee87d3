"""Progress where there is no terminal: a line every ten seconds, and one at the end."""

import io
import re
import time

import pytest
from rich.console import Console

from medrft import progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_with_a_rate_and_an_end(clock):
    text = io.StringIO()
    meter = progress.Meter("Evaluating grpo", console=Console(file=text))
    for done in range(0, 401, 10):
        meter.update(done, 400, note="reward 0.5")
        clock[0] += 1
    meter.stop()
    assert text.getvalue().splitlines() == [
        "Evaluating grpo: 100 of 400, 10/s, 30 s left, reward 0.5",
        "Evaluating grpo: 200 of 400, 10/s, 20 s left, reward 0.5",
        "Evaluating grpo: 300 of 400, 10/s, 10 s left, reward 0.5",
        "Evaluating grpo: 400 of 400, 10/s, 0 s left, reward 0.5",
        "Evaluating grpo: 400 in 41 s, reward 0.5",
    ]


def test_what_was_done_before_does_not_make_it_fast(clock):
    text = io.StringIO()
    meter = progress.Meter("Scoring", console=Console(file=text), total=1000)
    meter.update(900, 1000)
    clock[0] += 12
    meter.update(904, 1000)
    assert text.getvalue() == "Scoring: 904 of 1,000, 3 s each, 4 min 48 s left\n"


def test_work_that_cannot_be_counted_tells_its_seconds(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.2)
    monkeypatch.setattr(progress, "WORTH", 0.1)
    text = io.StringIO()
    meter = progress.Meter("Loading the model of base", console=Console(file=text))
    time.sleep(1)  # nothing is counted, and the thread tells of it
    meter.stop()
    *told, end = text.getvalue().splitlines()
    assert len(told) >= 2 and all(re.fullmatch(r"Loading the model of base: \d s so far", line) for line in told)
    assert re.fullmatch(r"Loading the model of base: \d s", end)
    time.sleep(0.5)
    assert text.getvalue().splitlines()[-1] == end


def test_short_work_says_nothing_and_a_terminal_has_a_bar(clock):
    text = io.StringIO()
    meter = progress.Meter("Reading", console=Console(file=text))
    meter.update(3, 3)
    meter.stop()
    assert text.getvalue() == ""
    shown = io.StringIO()
    bar = progress.Meter("Reading [b]", console=Console(file=shown, force_terminal=True, width=100), total=3)
    bar.update(3)
    bar.stop()
    assert "Reading [b]" in shown.getvalue() and "3/3" in shown.getvalue()
