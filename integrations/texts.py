"""A tokenizer of bytes with a chat model's special tokens, built here: nothing is downloaded."""

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as Bytes
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast

CHAT = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|image_pad|>")
THOUGHT = ("<think>", "</think>")


def make_tokenizer(*special: str) -> PreTrainedTokenizerFast:
    """Each byte a token, and each of `special` one that a decoder may skip."""
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({token: n for n, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = ByteLevel(add_prefix_space=False, use_regex=False), Bytes()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
