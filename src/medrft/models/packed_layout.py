"""What a packed row consists of: prompts and their branches, and the parts of attention that there are between them.

    row      prompt  branch  branch  …   prompt  branch  …          several prompts may lie in one row, end to end

`packed_layout` says it as a small tensor of whole numbers that can stand in the place of a mask; `read_layout` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

ALIKE = 1.25
"""How much longer than the shortest the longest of branches may be that are padded to one length."""


@dataclass(frozen=True)
class Tree:
    """One prompt and its branches, side by side in the row."""

    start: int
    """The place of its first token."""
    prompt: int
    """Tokens of the prompt."""
    branches: tuple[int, ...]
    """Tokens of each branch."""

    @property
    def held(self) -> slice:
        """The places of the prompt."""
        return slice(self.start, self.start + self.prompt)

    @property
    def written(self) -> slice:
        """The places of all branches."""
        return slice(self.held.stop, self.held.stop + sum(self.branches))


@dataclass(frozen=True)
class Part:
    """Queries and the keys that they see, as places in the row."""

    queries: slice
    keys: slice
    causal: bool
    mask: torch.Tensor | None = None
    """(queries, keys): 0 where a query sees a key, -inf elsewhere; `None` if all are seen, or those before it."""


@dataclass(frozen=True)
class Layout:
    """What a packed row consists of."""

    trees: list[Tree]
    images: torch.Tensor | None
    """The number of the image that each token belongs to, -1 for text, (T,); `None` if images are seen as text is."""
    masks: dict[Any, torch.Tensor] = field(default_factory=dict)
    """Masks of parts, by what they depend on: layers of one kind share them."""
    calls: dict[Any, Any] = field(default_factory=dict)
    """The same for what `attend_in_one_call` needs."""

    def parts(self, window: int | None, like: torch.Tensor) -> Iterator[Part]:
        """All parts, in a window of so many tokens if there is one; masks have the dtype and device of `like`."""
        for tree in self.trees:
            if tree.prompt:
                yield self.within_prompt(tree, window, like)
            felt = window is not None and window < tree.prompt + max(tree.branches, default=0)
            if tree.prompt and tree.branches and not felt:
                yield Part(tree.written, tree.held, causal=False)
            start = tree.written.start
            for length in tree.branches:
                if felt and window is not None:
                    yield from self._before_branch(tree, start, length, window, like)
                own = slice(start, start + length)
                yield Part(own, own, causal=True, mask=self._within_branch(length, window, like))
                start += length

    def within_prompt(self, tree: Tree, window: int | None, like: torch.Tensor) -> Part:
        """A prompt with itself."""
        images = None if self.images is None else self.images[tree.held]
        if images is None and (window is None or window >= tree.prompt):
            return Part(tree.held, tree.held, causal=True)
        name = ("prompt", tree, window, like.dtype)
        if name not in self.masks:
            seen = _causal(tree.prompt, like.device)
            if images is not None:
                seen = seen | ((images[:, None] == images) & (images >= 0))
            if window is not None:
                places = torch.arange(tree.prompt, device=like.device)
                seen = seen & (places > places[:, None] - window)
            self.masks[name] = _additive(seen, like)
        return Part(tree.held, tree.held, causal=True, mask=self.masks[name])

    def _within_branch(self, length: int, window: int | None, like: torch.Tensor) -> torch.Tensor | None:
        """A branch's own mask, if it is longer than the window."""
        if window is None or window >= length:
            return None
        name = ("branch", length, window, like.dtype)
        if name not in self.masks:
            places = torch.arange(length, device=like.device)
            seen = _causal(length, like.device) & (places > places[:, None] - window)
            self.masks[name] = _additive(seen, like)
        return self.masks[name]

    def _before_branch(self, tree: Tree, start: int, length: int, window: int, like: torch.Tensor) -> Iterator[Part]:
        """What a branch sees of its prompt through a window, which counts tokens of the sequence and not of the row."""
        queries, keys = min(length, window - 1), min(tree.prompt, window - 1)
        if not queries or not keys:
            return
        name = ("before", queries, keys, window, like.dtype)
        if name not in self.masks:
            ahead = torch.arange(queries, device=like.device)[:, None] + keys  # the last key is the token before
            self.masks[name] = _additive(torch.arange(keys, device=like.device) > ahead - window, like)
        end = tree.held.stop
        yield Part(slice(start, start + queries), slice(end - keys, end), causal=False, mask=self.masks[name])


def _causal(size: int, device: Any) -> torch.Tensor:
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()


def _additive(seen: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(seen, dtype=like.dtype).masked_fill(~seen, -torch.inf)


def packed_layout(rows: torch.Tensor, segments: torch.Tensor, images: torch.Tensor | None) -> torch.Tensor:
    """A mask for `packed_attention`, (1, 1, 2 or 3, T), of T tokens that lie end to end.

    `rows` (T,) numbers each token's prompt, `segments` (T,) is 0 in the prompt and 1, 2, … in its branches, and
    `images` (T,) numbers the images whose tokens see each other both ways, -1 for text.
    """
    mask = torch.stack([rows, segments] if images is None else [rows, segments, images])[None, None]
    read_layout(mask)
    return mask


def read_layout(mask: torch.Tensor) -> Layout:
    """The layout that a mask says."""
    found: Layout | None = getattr(mask, "packed_layout", None)
    if found is not None:
        return found
    runs, counts = torch.unique_consecutive(mask[0, 0, :2], dim=1, return_counts=True)
    trees: list[Tree] = []
    before, place = None, 0
    for row, segment, count in zip(*runs.tolist(), counts.tolist(), strict=True):
        if row != before:
            trees.append(Tree(place, count, ()) if segment == 0 else Tree(place, 0, (count,)))
        else:
            trees[-1] = Tree(trees[-1].start, trees[-1].prompt, (*trees[-1].branches, count))
        before, place = row, place + count
    found = Layout(trees, mask[0, 0, 2] if mask.shape[2] > 2 else None)
    # Reading numbers from a GPU waits for it. So they are read once, and not again in every layer.
    mask.packed_layout = found
    return found


def is_layout(mask: Any) -> bool:
    """Whether a mask is one of `packed_layout`: masks of transformers are boolean or floating point."""
    return isinstance(mask, torch.Tensor) and mask.dtype == torch.long and mask.ndim == 4


def like_lengths(lengths: tuple[int, ...]) -> list[list[int]]:
    """The branches in groups of like length.

    >>> like_lengths((5, 100, 4, 90))
    [[2, 0], [3, 1]]
    """
    groups: list[list[int]] = []
    for member in sorted(range(len(lengths)), key=lambda member: lengths[member]):
        if groups and lengths[member] <= ALIKE * lengths[groups[-1][0]]:
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups
