"""Attention by parts is attention under a dense mask: outputs and gradients, in every layout, window and dtype."""

import itertools

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from medrft.errors import ModelError
from medrft.models import packed_attention as packed
from medrft.models import packed_varlen, prefix
from medrft.models.packed_layout import Tree, like_lengths, packed_layout, read_layout

TREES = {
    "several prompts, branches of many lengths": [(20, [5, 9, 9, 1]), (7, [3]), (33, [40, 12, 38, 11])],
    "branches of one length": [(30, [16, 16, 16])],
    "a branch longer than its prompt": [(4, [50, 2])],
    "a prompt of one token, all of it in the branches": [(0, [5, 7])],
    "no branches": [(12, [])],
}
HEADS, KEY_HEADS, WIDTH = 4, 2, 16


class Layer:
    """What an attention function reads of a module."""

    is_causal = True
    num_key_value_groups = HEADS // KEY_HEADS


class Case:
    """Queries, keys and values of a packed row, and what each token is."""

    def __init__(self, trees, *, images, dtype=torch.float64):
        torch.manual_seed(0)
        rows, segments, depth, numbers = [], [], [], []
        for row, (prompt, branches) in enumerate(trees):
            segments += [0] * prompt
            depth += range(prompt)
            numbers += ([-1] * 2 + [0] * 3 + [-1] + [1] * max(0, prompt - 6))[:prompt]
            for branch, length in enumerate(branches, start=1):
                segments += [branch] * length
                depth += range(prompt, prompt + length)
                numbers += [-1] * length
            rows += [row] * (prompt + sum(branches))
        self.rows, self.segments, self.depth, numbers = map(torch.tensor, (rows, segments, depth, numbers))
        self.images = numbers if images else None
        heads = (HEADS, KEY_HEADS, KEY_HEADS)
        self.given = [torch.randn(1, n, len(rows), WIDTH, dtype=dtype, requires_grad=True) for n in heads]
        self.weights = torch.randn(1, len(rows), HEADS, WIDTH, dtype=dtype)
        self.mask = packed_layout(self.rows, self.segments, self.images)

    def dense(self, window):
        """Attention under a mask over the whole row."""
        query, key, value = self.given
        same = self.rows[:, None] == self.rows
        seen = torch.ones_like(same).tril() & same
        seen &= (self.segments[:, None] == self.segments) | (self.segments == 0)[None]
        if self.images is not None:
            seen |= same & (self.images[:, None] == self.images) & (self.images >= 0)
        if window is not None:
            seen &= self.depth > self.depth[:, None] - window
        key, value = (x.repeat_interleave(HEADS // KEY_HEADS, 1) for x in (key, value))
        return scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=0.3).transpose(1, 2)

    def measured(self, found):
        """The output, and the gradients of a weighing of it."""
        return found.detach(), *torch.autograd.grad((found * self.weights).sum(), self.given)


def gap(one, other):
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("images", [False, True], ids=["text", "images seen both ways"])
@pytest.mark.parametrize("trees", TREES)
def test_both_ways_are_attention_under_a_dense_mask(trees, images):
    case = Case(TREES[trees], images=images)
    layout = read_layout(case.mask)
    for window in (None, 1, 2, 3, 8, 24, 30, 50, 1000):
        expected = case.measured(case.dense(window))
        for way in (packed._Merged.apply, packed._concatenated):
            assert gap(expected, case.measured(way(*case.given, layout, window, 0.3))) < 1e-12, (window, way)


def flash_of_any_length(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale, window_size, enable_gqa):
    """What torch says that its `varlen_attn` computes: causal sequences are aligned at their ends."""
    assert window_size[1] == 0 and enable_gqa
    found = []
    for start, end, first, last in zip(cu_seq_q, cu_seq_q[1:], cu_seq_k, cu_seq_k[1:], strict=False):
        queries, keys = int(end - start), int(last - first)
        assert queries <= max_q and keys <= max_k
        ahead = torch.arange(keys) - torch.arange(keys - queries, keys)[:, None]
        seen = (ahead <= 0) & ((ahead >= -window_size[0]) | (window_size[0] < 0))
        parts = (x.transpose(0, 1)[None] for x in (query[start:end], key[first:last], value[first:last]))
        found.append(scaled_dot_product_attention(*parts, attn_mask=seen, scale=scale, enable_gqa=True)[0])
    return torch.cat(found, 1).transpose(0, 1)


@pytest.mark.parametrize("trees", TREES)
def test_the_sequences_of_one_call_are_what_a_dense_mask_shows(trees):
    """On a GPU flash attention takes them; here plain attention does, as torch describes it."""
    case = Case(TREES[trees], images=False)
    layout = read_layout(case.mask)
    for window in (None, 1, 2, 3, 8, 24, 30, 50, 1000):
        found = packed_varlen.attend_in_one_call(*case.given, layout, window, 0.3, flash_of_any_length)
        assert gap(case.measured(case.dense(window)), case.measured(found)) < 1e-12, window


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize("window", [None, 8, 30])
@pytest.mark.parametrize("trees", TREES)
def test_one_call_of_flash_attention_is_attention_under_a_dense_mask(trees, window):
    exact, case = (Case(TREES[trees], images=False, dtype=dtype) for dtype in (torch.float64, torch.bfloat16))
    case.given = [x.detach().to("cuda").requires_grad_() for x in case.given]
    case.weights, case.mask = case.weights.to("cuda"), case.mask.to("cuda")
    with torch.no_grad():
        for one, other in zip([*exact.given, exact.weights], [*case.given, case.weights], strict=True):
            one.copy_(other)
    assert packed_varlen.why_not_in_one_call(case.given[0], case.given[2], read_layout(case.mask)) is None
    found, _ = packed.packed_attention(Layer(), *case.given, case.mask, scaling=0.3, sliding_window=window)
    assert gap(exact.measured(exact.dense(window)), [x.cpu() for x in case.measured(found)]) < 0.1


def test_one_call_is_for_gpus_and_half_precision():
    case = Case(TREES["branches of one length"], images=False, dtype=torch.bfloat16)
    query, _, value = case.given
    assert packed_varlen.why_not_in_one_call(query, value, read_layout(case.mask)) == "it needs a GPU"


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_lower_precision(dtype, limit):
    exact, case = (
        Case(TREES["several prompts, branches of many lengths"], images=False, dtype=d) for d in (torch.float64, dtype)
    )
    with torch.no_grad():
        for one, other in zip([*exact.given, exact.weights], [*case.given, case.weights], strict=True):
            one.copy_(other)
    found = packed._Merged.apply(*case.given, read_layout(case.mask), None, 0.3)
    assert found.dtype == dtype
    assert gap(exact.measured(exact.dense(None)), case.measured(found)) < limit


def test_autocast_computes_in_its_dtype():
    case = Case(TREES["branches of one length"], images=False, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = packed.packed_attention(Layer(), *case.given, case.mask)
    assert found.dtype == torch.bfloat16


def test_the_layout_can_be_read_from_its_numbers_alone():
    """As after a copy to another device, which loses what was read before."""
    case = Case([(3, [2, 4]), (0, [1]), (2, [])], images=False)
    trees = read_layout(case.mask.clone()).trees
    assert trees == [Tree(0, 3, (2, 4)), Tree(9, 0, (1,)), Tree(10, 2, ())]
    assert trees == read_layout(case.mask).trees
    assert (trees[0].held, trees[0].written) == (slice(0, 3), slice(3, 9))


@pytest.mark.parametrize("padded", [False, True])
def test_a_plain_pass_is_transformers_own(padded):
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    case = Case([(9, [])], images=False)
    seen = torch.ones(9, 9, dtype=torch.bool).tril() & (torch.arange(9) >= 3) | torch.eye(9, dtype=torch.bool)
    mask = seen[None, None] if padded else None
    expected, _ = sdpa_attention_forward(Layer(), *case.given, mask, scaling=0.3)
    found, _ = packed.packed_attention(Layer(), *case.given, mask, scaling=0.3, sliding_window=4)
    assert torch.equal(found, expected)


def test_transformers_knows_the_attention_and_a_mask_function_for_it():
    """An attention without a mask function gets no mask: padding would be seen, with no error."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    packed.register_attention(prefix.PARTS)
    assert AttentionInterface()[prefix.PARTS] is packed.packed_attention
    assert AttentionMaskInterface()[prefix.PARTS] is sdpa_mask
    assert "flash" not in prefix.PARTS  # a name by which transformers would take it for flash attention


REFUSED = {
    "softcap": {"softcap": 30.0},
    "s_aux": {"s_aux": torch.ones(HEADS)},
    "position_bias": {"position_bias": torch.zeros(1, HEADS, 46, 46)},
    "dropout": {"dropout": 0.1},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_parts_would_leave_out_is_refused(name):
    case = Case(TREES["branches of one length"], images=False)
    with pytest.raises(ModelError, match=f"attention with {name} cannot be taken apart"):
        packed.packed_attention(Layer(), *case.given, case.mask, **REFUSED[name])


def test_layers_that_see_both_ways_and_queries_of_a_few_tokens_are_refused():
    case = Case(TREES["branches of one length"], images=False)
    layer = Layer()
    layer.is_causal = False
    with pytest.raises(ModelError, match="two directions"):
        packed.packed_attention(layer, *case.given, case.mask)
    with pytest.raises(ModelError, match="attention of 1 tokens to 78"):
        packed.packed_attention(Layer(), case.given[0][:, :, -1:], *case.given[1:], case.mask)


def biggest(work):
    """Elements of the largest tensor that any operation of `work` returns."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_iter

    most = [0]

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            found = func(*args, **(kwargs or {}))
            sizes = [x.numel() for x in tree_iter(found) if isinstance(x, torch.Tensor)]
            most[0] = max([most[0], *sizes])
            return found

    with Watch():
        work()
    return most[0]


def test_no_tensor_grows_with_the_square_of_the_row():
    sizes = []
    for size in (4, 8):
        case = Case([(40, [64] * size)], images=False, dtype=torch.float32)
        layout = read_layout(case.mask)
        sizes.append(
            biggest(
                lambda case=case, layout=layout: case.measured(packed._Merged.apply(*case.given, layout, None, 0.3))
            )
        )
    assert sizes[1] < 2 * sizes[0]
    assert sizes[1] == HEADS * WIDTH * (40 + 8 * 64)


def test_branches_are_padded_to_their_neighbours_length():
    groups = like_lengths((5, 100, 4, 90, 98, 30))
    assert groups == [[2, 0], [5], [3, 4, 1]]
    assert sorted(itertools.chain(*groups)) == list(range(6))
