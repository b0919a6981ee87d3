"""The measurements behind preflight: a policy and a few examples go in, numbers and texts to compare come out.

They show what the policy reads (image tokens, padding), learns (the tokens under SFT's loss), sees (logits with other
pictures) and writes (log-probabilities of rollouts).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medrft.data.images import blank_like
from medrft.models.encode import Images, encode_chats, to_device, widen_inputs
from medrft.models.generate import generation_config
from medrft.models.policy import Policy
from medrft.models.prompts import Prompt, with_images
from medrft.models.tokens import end_ids, image_token_id, placeholder_ids, special_ids
from medrft.text import extract
from medrft.types import Example

if TYPE_CHECKING:
    import torch

ROLLOUT_TOKENS = 24
STAND_IN = "It looks so."
"""The thought of a perfect completion if the example has no rationale."""
NOT_FEATURES = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "labels")


class CannotAskError(Exception):
    """A measurement that cannot be made on this class of model; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A policy with the examples to measure it on; `prompt` is already bound to its template."""

    policy: Policy
    prompt: Prompt
    few: Sequence[Example]
    many: Sequence[Example]
    images: Images
    max_length: int | None
    temperature: float
    suppress: Sequence[int] | None
    autocast: str | None
    seed: int

    @property
    def dtype(self) -> str:
        """The precision that training computes in."""
        return self.autocast or str(self.policy.model.dtype).removeprefix("torch.")

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Inside there is no dropout and no gradient; torch's generator is left as it was."""
        import torch

        model, training = self.policy.model, self.policy.model.training
        devices = [self.policy.device] if self.policy.device.type == "cuda" else []
        model.eval()
        try:
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                torch.manual_seed(self.seed)
                yield
        finally:
            model.train(training)

    # Reading

    def chats(self, examples: Sequence[Example], pictures: Sequence[list[Any]] | None = None) -> list[Any]:
        """The examples' messages with pictures: their own, unless others are given."""
        own = [self.images(example) for example in examples] if pictures is None else pictures
        return [with_images(self.prompt.messages(e), shown) for e, shown in zip(examples, own, strict=True)]

    def image_counts(self, example: Example) -> tuple[int, int]:
        """How many image tokens an example's prompt has, and how many features the vision tower makes of its pictures.

        Raises `CannotAskError` for a model that has no image tokens or no way to ask for the features.
        """
        inputs = encode_chats(self.policy, self.chats([example]))
        token = image_token_id(self.policy)
        if token is None:
            raise CannotAskError("neither config nor processor names an image token")
        tokens = int((inputs["input_ids"] == token).sum())
        return tokens, self._features(inputs) if example.images else 0

    def _features(self, inputs: dict[str, Any]) -> int:
        model = self.policy.model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        name = type(base).__name__
        if any(getattr(base.config.get_text_config(), "cross_attention_layers", None) or ()):
            raise CannotAskError(f"{name} reads pictures through cross-attention, not in the place of image tokens")
        ask = getattr(base, "get_image_features", None)
        if ask is None:
            raise CannotAskError(f"{name} has no get_image_features")
        known = inspect.signature(ask).parameters
        given = {key: value for key, value in inputs.items() if key not in NOT_FEATURES and key in known}
        try:
            inspect.signature(ask).bind(**given)
        except TypeError as error:
            raise CannotAskError(
                f"{name}.get_image_features wants other inputs than its processor makes: {error}"
            ) from error
        with self._precision():
            found = ask(**given)
        found = getattr(found, "pooler_output", found)
        if found is None:
            raise CannotAskError(f"{name}.get_image_features tells no features per image token")
        parts = found if isinstance(found, (list, tuple)) else [found]
        return sum(part.numel() // part.shape[-1] for part in parts)

    def right_padded(self) -> list[str]:
        """The rows that end in padding when the processor pads a batch by its own settings, as trainers let it do."""
        from medrft.models.prompts import render_chat

        chats = self.chats(self.many)
        texts = [render_chat(self.policy.processor, chat, generation=True) for chat in chats]
        longer = [text + " and" * (8 * (i % 2)) for i, text in enumerate(texts)]  # lengths that surely differ
        tokenizer = self.policy.processor.tokenizer
        mask = tokenizer([*longer, texts[0] + " and" * 4], padding=True, return_tensors="pt")["attention_mask"]
        return [f"row {i} of {len(mask)}" for i, row in enumerate(mask.tolist()) if not row[-1]]

    def prompt_length(self, example: Example) -> int:
        """Tokens of a prompt, its image tokens included."""
        return int(encode_chats(self.policy, self.chats([example]))["input_ids"].shape[1])

    def tail(self, ids: Sequence[int], n: int = 24) -> str:
        """The end of some tokens, as text."""
        return str(self.policy.processor.tokenizer.decode(list(ids)[-n:]))

    # Learning

    def no_targets(self) -> str | None:
        """Why SFT has nothing to learn here; `None` if it has."""
        if self.prompt.form == "think" and not all((e.rationale or "").strip() for e in self.few):
            return "no rationales: nothing is learned by imitation here"
        return None

    def _collated(self, example: Example) -> tuple[list[int], list[int]]:
        """Token ids and labels of one row, from SFT's own collator."""
        from medrft.training.collator import Collator

        collate = Collator(self.policy.processor, completion_only_loss=True)
        answer = {"role": "assistant", "content": [{"type": "text", "text": self.prompt.target(example)}]}
        row = {"prompt": self.prompt.messages(example), "completion": [answer], "images": self.images(example)}
        batch = collate([row])
        return batch["input_ids"][0].tolist(), batch["labels"][0].tolist()

    def prompts_of_both(self) -> Iterator[tuple[list[int], list[int]]]:
        """For each example, the prompt's token ids in training and in generation."""
        for example in self.few:
            ids, labels = self._collated(example)
            start = next((i for i, label in enumerate(labels) if label != -100), len(labels))
            yield ids[:start], encode_chats(self.policy, self.chats([example]))["input_ids"][0].tolist()

    def learned(self) -> Iterator[tuple[str, list[str]]]:
        """For each example, the text under the loss, and the texts that it may be: the turn with any of the end tokens.

        Special tokens that a template writes at the end of each turn, before the end token, are left out. If a template
        opens a thought that the prompt does not ask for, the turn may begin with `</think>`.
        """
        tokenizer = self.policy.processor.tokenizer
        ends = end_ids(self.policy)
        closed = ["</think>"] if self.prompt.opened and self.prompt.form != "think" else []
        for example in self.few:
            _, labels = self._collated(example)
            ids = _without_closing([label for label in labels if label != -100], ends, special_ids(tokenizer))
            turn = self.prompt.target(example).removeprefix(self.prompt.opened)
            turns = [start + turn for start in ("", *closed)]
            yield str(tokenizer.decode(ids)), [said + str(tokenizer.decode([end])) for said in turns for end in ends]

    def read_back(self) -> Iterator[tuple[str, str | None]]:
        """For each example, a perfect completion after encoding and decoding, and the answer that scorers read of it.

        The answer is `None` if it is not well formed.
        """
        tokenizer = self.policy.processor.tokenizer
        for example in self.few:
            known = example if (example.rationale or "").strip() else replace(example, rationale=STAND_IN)
            written = self.prompt.target(known).removeprefix(self.prompt.opened)
            if self.prompt.opened and self.prompt.form != "think":
                written = f"{STAND_IN}</think>{written}"
            ids = [*tokenizer(written, add_special_tokens=False)["input_ids"], end_ids(self.policy)[0]]
            text = self.prompt.finish(tokenizer.decode(ids, skip_special_tokens=True))
            found = extract(text, self.prompt.form)
            yield text, found.answer if found.well_formed else None

    # Seeing

    def logits(self, *, pictures: Sequence[list[Any]] | None = None, backwards: bool = False) -> Any:
        """Logits after the prompt, (examples, vocabulary); `backwards` runs the rows in the other order."""
        examples = list(self.few)
        shown = [self.images(e) for e in examples] if pictures is None else list(pictures)
        if backwards:
            examples.reverse()
            shown.reverse()
        logits = self._forward(encode_chats(self.policy, self.chats(examples, shown)))[:, -1].float()
        return logits.flip(0) if backwards else logits

    def blank_logits(self) -> Any:
        """Logits with grey pictures of the same sizes."""
        return self.logits(pictures=[[blank_like(image) for image in self.images(e)] for e in self.few])

    def shuffled_logits(self) -> Any:
        """Logits with each example's pictures replaced by another's, as many as it had."""
        pool = [self.images(e) for e in self.few]
        flat = [image for shown in pool[1:] + pool[:1] for image in shown]
        return self.logits(pictures=[[flat.pop(0) for _ in shown] for shown in pool])

    def pictures_differ(self) -> bool:
        """Whether shuffling changes any picture."""
        return len({image for e in self.few for image in e.images}) > 1

    def noise(self, plain: Any) -> float:
        """How much running again changes the logits: with the same rows, and with the rows in the other order."""
        return max(self.distance(plain, self.logits()), self.distance(plain, self.logits(backwards=True)))

    @staticmethod
    def distance(one: Any, other: Any) -> float:
        """Root mean square difference of two tensors of logits."""
        return float((one - other).square().mean().sqrt())

    # Writing

    def rollout_against_training(self) -> tuple[float, float]:
        """Largest difference per token between log-probabilities in rollout and training, and that by padding alone.

        In rollouts they come step by step from generation. In training they come from one forward pass over prompt and
        completion, prompts padded on the left and completions on the right. As in TRL, logits are divided by the
        temperature.
        """
        import torch

        inputs, written, made = self._rollout(None)  # a sampled placeholder would break the forward pass
        size = inputs["input_ids"].shape[1]
        completion = written.sequences[:, size:]
        steps = torch.stack([step.float() for step in written.logits], dim=1)
        rollout = self._chosen(steps, completion)
        training = self._training_logps(inputs, completion, made, more=0)
        padded = self._training_logps(inputs, completion, made, more=7)
        return _gap(rollout, training, made), _gap(training, padded, made)

    def placeholder_probability(self) -> tuple[float, float]:
        """Highest probability of an image placeholder at any step of a rollout: as sampled, and by the model alone."""
        import torch

        _, written, _ = self._rollout(self.suppress)
        ids = list(placeholder_ids(self.policy))
        if not ids:
            return 0.0, 0.0
        sampled = torch.stack(written.scores).float().softmax(-1)[..., ids]
        alone = torch.stack(written.logits).float().softmax(-1)[..., ids]
        return float(sampled.max()), float(alone.sum(-1).max())

    def _rollout(self, suppress: Sequence[int] | None) -> tuple[dict[str, Any], Any, torch.Tensor]:
        """The inputs, what generation returned, and a mask of each completion up to its end token."""
        import torch

        torch.manual_seed(self.seed)
        inputs = encode_chats(self.policy, self.chats(self.few))
        config = generation_config(self.policy, ROLLOUT_TOKENS, self.temperature)
        if suppress is not None:
            config.suppress_tokens = list(suppress) or None
        config.return_dict_in_generate = config.output_logits = config.output_scores = True
        with self._precision():
            written = self.policy.model.generate(**inputs, generation_config=config)
        completion = written.sequences[:, inputs["input_ids"].shape[1] :]
        ended = torch.isin(completion, torch.tensor(end_ids(self.policy), device=completion.device))
        return inputs, written, (ended.cumsum(1) - ended.long()) == 0

    def _training_logps(self, inputs: dict[str, Any], completion: Any, made: Any, *, more: int) -> Any:
        """Log-probabilities of the completion's tokens in one forward pass, with `more` padding before the prompt."""
        import torch

        model, (rows, size) = self.policy.model, completion.shape
        fill = self.policy.processor.tokenizer.pad_token_id
        whole = widen_inputs(inputs, before=more, after=size)
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        whole["input_ids"] = torch.cat([ids.new_full((rows, more), fill), ids, completion], dim=1)
        whole["attention_mask"] = torch.cat([mask.new_zeros((rows, more)), mask, made.to(mask.dtype)], dim=1)
        with self._precision():
            logits = model(**whole, use_cache=False).logits
        return self._chosen(logits[:, -size - 1 : -1].float(), completion)

    def _chosen(self, logits: Any, ids: Any) -> Any:
        scaled = logits / (self.temperature or 1.0)
        return scaled.log_softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)

    def _forward(self, inputs: dict[str, Any]) -> Any:
        with self._precision():
            return self.policy.model(**to_device(self.policy, inputs), use_cache=False).logits

    def _precision(self) -> Any:
        import torch

        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast(self.policy.device.type, dtype=getattr(torch, self.autocast))


def _without_closing(ids: list[int], ends: Sequence[int], special: set[int]) -> list[int]:
    """Token ids without the special tokens that stand right before the last end token.

    >>> _without_closing([5, 6, 91, 90, 7], [90], {90, 91})
    [5, 6, 90, 7]
    """
    last = max((place for place, token in enumerate(ids) if token in ends), default=len(ids))
    start = last
    while start > 0 and last < len(ids) and ids[start - 1] in special and ids[start - 1] not in ends:
        start -= 1
    return ids[:start] + ids[last:]


def _gap(one: Any, other: Any, mask: Any) -> float:
    return float(((one - other).abs() * mask).max())
