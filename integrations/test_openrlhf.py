"""OpenRLHF 0.11: `SingleTurnAgentExecutor` with a reward file of two lines, text and images, many rows at once."""

import asyncio
import logging
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("openrlhf")

import torch
from openrlhf.utils.agent import SingleTurnAgentExecutor
from PIL import Image

from contract import EXACT, FLOAT32, ROWS, label, or_zero
from serving import serving
from texts import CHAT, make_tokenizer

TOKENIZER = make_tokenizer(*CHAT)
SAMPLING = SimpleNamespace(max_tokens=2000, logprobs=None)


class Processor:
    """A vision model's processor: each image token stands four times in the ids."""

    image_processor = object()

    def __call__(self, *, text, images, **settings):
        wide = [one.replace("<|image_pad|>", "<|image_pad|>" * 4) for one in text]
        return {**TOKENIZER(text=wide, **settings), "pixel_values": torch.zeros(len(images), 3)}

    def decode(self, *given, **settings):
        return TOKENIZER.decode(*given, **settings)


class Engine:
    """vLLM's place: it writes what it is told, and the token that ends it."""

    def __init__(self, text):
        self.ids = TOKENIZER(text=text + "<|im_end|>", add_special_tokens=False)["input_ids"]

    async def generate(self, prompt_ids, sampling_params, multi_modal_data=None):
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=self.ids, finish_reason="stop", logprobs=None)])


def prompt_of(row, image=""):
    return f"<|im_start|>user\n{image}{row['question']}<|im_end|>\n<|im_start|>assistant\n"


def make_executor(case, tmp_path):
    """The reward file of a user."""
    settings = "".join(f", {key}={value!r}" for key, value in case.settings.items())
    file = tmp_path / "reward.py"
    file.write_text(
        "from medrft.integrations.openrlhf import make_reward_func\n"
        f"reward_func = make_reward_func({case.reward!r}{settings})\n"
    )
    return SingleTurnAgentExecutor(str(file))


def execute(executor, rows, *, tokenizer=TOKENIZER, image="", images=None, label=label):
    """All rows at once: OpenRLHF runs its reward function in a thread for each."""

    async def everything():
        calls = [
            executor.execute(
                prompt_of(row, image), label(row), SAMPLING, 9000, tokenizer, Engine(row["completion"]), images=images
            )
            for row in rows
        ]
        return await asyncio.gather(*calls)

    return asyncio.run(everything())


def as_float(tensors):
    assert all(tensor.dtype == torch.float32 and tensor.shape == (1,) for tensor in tensors)
    return torch.cat(tensors).tolist()


@pytest.mark.parametrize("image", ["", "<|image_pad|>"])
def test_the_numbers_are_ours(case, tmp_path, image):
    executor = make_executor(case, tmp_path)
    seen = set()
    inner = executor.reward_func
    executor.reward_func = lambda *given: (seen.add(threading.get_ident()), inner(*given))[1]
    more = {"image": image, "images": [Image.new("RGB", (4, 4))], "tokenizer": Processor()} if image else {}
    found = execute(executor, ROWS, **more)
    assert as_float([row["reward"] for row in found]) == pytest.approx(or_zero(case.expected), abs=FLOAT32)
    assert as_float([row["scores"] for row in found]) == pytest.approx(or_zero(case.expected), abs=FLOAT32)
    assert [row["extra_logs"]["unscored"].item() for row in found] == [float(v is None) for v in case.expected]
    assert len({tuple(row["extra_logs"]) for row in found}) == 1 and len(seen) > 1
    assert inner.held.counts["rows"] == 64 and inner.held.counts["unscored"] == case.expected.count(None)


def test_before_the_tensor_the_numbers_are_exact(case, tmp_path):
    executor = make_executor(case, tmp_path)
    found = [executor.reward_func.held.columns(one)["score"] for one in case.outcomes]
    assert found == pytest.approx(or_zero(case.expected), abs=EXACT)


def test_a_prompt_cut_at_its_beginning_is_still_stripped(case, tmp_path):
    executor = make_executor(case, tmp_path)
    rows = [{**row, "question": "x" * 9000 + row["question"]} for row in ROWS[:8]]
    found = execute(executor, rows, label=lambda row: label({**row, "question": "?"}))
    assert as_float([row["reward"] for row in found]) == pytest.approx(or_zero(case.expected)[:8], abs=FLOAT32)


def test_what_openrlhf_swallows_is_counted(case, tmp_path, caplog):
    executor = make_executor(case, tmp_path)
    with caplog.at_level(logging.ERROR, logger="medrft"):
        found = execute(executor, ROWS[:3], label=lambda row: '{"question": "no reference"}')
    assert [row["reward"] for row in found] == [None] * 3  # OpenRLHF goes on without
    assert executor.reward_func.held.counts["failed"] == 3 and "a reward call of 1 rows failed" in caplog.text


@pytest.mark.parametrize("token", [None, "t0ken-of-some-length"])
def test_a_served_reward_gives_our_numbers_through_the_remote_url(case, token):
    """OpenRLHF sends no headers of its own, so a token stands in the address."""
    with serving(case, token) as (address, server):
        found = execute(SingleTurnAgentExecutor([f"{address}/get_reward"]), ROWS)
        counts = server.worker.counts
        assert counts.requests == 64 and counts.calls < 64  # rows that came together were scored together
    assert [row["reward"] for row in found] == pytest.approx(or_zero(case.expected), abs=EXACT)
    assert [row["scores"] for row in found] == [min(1.0, max(0.0, row["reward"])) for row in found]
    assert [row["extra_logs"]["unscored"] for row in found] == [float(v is None) for v in case.expected]
    # What OpenRLHF's samples_generator does with them: tensors as long as the batch, as from a reward file.
    assert torch.tensor([found[0]["reward"]]).shape == torch.tensor([found[0]["extra_logs"]["unscored"]]).shape == (1,)
