"""Replaces secrets with `***` in all that is written, printed, logged or raised; no other module does.

A secret is known in three ways: by the key it stands under (`hub_token`, `apiKey`, `X-Api-Key`), by its form (`hf_…`,
`sk-…`, a password in a URL), or by its value. A value that a recipe, `--set` or an environment variable gave under such
a key is masked wherever it turns up again, such as in a server's error message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TextIO
from urllib.parse import quote

MASK = "***"

STRONG = frozenset(
    (
        *("secret", "secrets", "passphrase", "passcode", "pwd", "credential", "credentials", "authorization"),
        *("authentication", "bearer", "cookie", "cookies"),
    )
)
"""A name that holds one of these words holds a secret."""
REFERENCES = frozenset(("env", "envvar", "var", "variable", "file", "path", "dir", "name", "id", "ids", "type", "url"))
"""A name that ends in one of these says where a secret is, as `api_key_env` does."""
JOINED = re.compile(
    r"(?:api|access|secret|private|auth|hub|hf|bearer|session|refresh|client|server|wandb)(?:key|token)s?"
)
QUALIFIED = frozenset(
    ("api", "access", "secret", "private", "auth", "hub", "hf", "bearer", "session", "refresh", "client", "server")
)
"""Words before `keys` and `tokens` that make them secrets; other tokens are counts, as in `max_tokens`."""
PLAIN_TOKENS = frozenset(
    (
        *("eos", "bos", "pad", "sep", "unk", "cls", "mask", "image", "video", "audio", "vision", "boi", "eoi", "think"),
        *("start", "end", "begin", "stop", "special", "first", "last", "next", "per", "n", "num", "max", "min", "new"),
        *("fake", "utterance", "answer", "prompt", "completion", "loss", "mean", "row", "col", "added", "additional"),
        *("decoder", "forced", "context", "newline", "by", "each", "single", "placeholder"),
    )
)
PLAIN_KEYS = frozenset(
    (
        *("sort", "primary", "foreign", "public", "image", "images", "question", "answer", "reference", "label"),
        *("group", "cache", "id", "row", "column", "field", "choice", "option", "options", "dict", "map", "lookup"),
        *("index", "partition", "order", "registry", "text", "prompt", "item", "json", "main", "split", "kind"),
        *("dataset", "data", "sample", "arm", "stage", "study", "name", "metadata", "config", "recipe", "unknown"),
        *("path", "file", "state", "attention", "query", "value", "any", "each", "first", "last", "the", "this", "a"),
    )
)

FORMS = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|(?:sk|pk|rk|nvapi|gsk|glpat|key)[-_][A-Za-z0-9_-]{14,}|r8_[A-Za-z0-9]{20,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,}"
    r"|AKIA[A-Z0-9]{16}|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
)
"""Tokens that services mark by how they begin."""
USER = re.compile(r"(://)[^/\s@'\"]+@")
BEARER = re.compile(r"\b(Bearer|Basic)\s+(?=[A-Za-z0-9+/=_.~-]*[0-9+/=_.~-])[A-Za-z0-9+/=_.~-]{8,}", re.IGNORECASE)
HEAD = re.compile(r"(?<![\w.-])(?P<name>[\w.-]{1,160})[\"']?\s{0,8}(?P<sign>[=:])\s{0,8}")
VALUE = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|[\"']?(?:(?:Bearer|Basic|Token)\s)?[^\s\"'&,;}\])]+", re.IGNORECASE)
FLAG = re.compile(r"(?<![\w-])(?P<name>--[\w-]{1,80})(?P<between>[ =])(?P<value>(?!-)\S+)")
MARK = re.compile(r"[<\[].*[>\]]", re.DOTALL)
"""`<|im_end|>`, `[PAD]`: a token of a vocabulary."""
ENDPOINT = re.compile(
    r"base_url|api_base|api_key_env|api-key-env|server_url|endpoint_url|--endpoint|vllm_server_host|\*\*\*",
    re.IGNORECASE,
)

_remembered: dict[str, None] = {}


@lru_cache(maxsize=4096)
def is_secret_key(name: str) -> bool:
    """Whether a key, option, header or variable of this name holds a secret.

    >>> names = ("hub_token", "apiKey", "X-Api-Key", "judge.api_key", "WANDB_API_KEY", "db_password", "Authorization")
    >>> [is_secret_key(name) for name in names] == [True] * len(names)
    True
    >>> plain = ("api_key_env", "max_tokens", "eos_token", "tokenizer", "sort_key", "key", "n_tokens", "keyword")
    >>> [is_secret_key(name) for name in plain] == [False] * len(plain)
    True
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = [word.lower() for word in re.findall(r"[A-Za-z]+|[0-9]+", spaced)]
    while words and words[-1].isdigit():
        words.pop()  # api_key_2
    if not words or words[-1] in REFERENCES:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if any("password" in word or "passwd" in word or "apikey" in word for word in words):
        return True
    if STRONG & set(words) or JOINED.fullmatch(last) or last == "auth":
        return True
    if last in ("token", "key"):
        plain = PLAIN_TOKENS if last == "token" else {*PLAIN_KEYS, ""}
        return before not in plain
    return last in ("tokens", "keys") and before in QUALIFIED


def mask_secrets(value: Any) -> Any:
    """A copy of a table, list or text with every secret in it as `***`; numbers, truth values and `None` stay.

    >>> table = {"trl": {"hub_token": "hf_x", "max_steps": 3}, "headers": {"Authorization": ["a", "b"]}, "token": True}
    >>> mask_secrets(table)
    {'trl': {'hub_token': '***', 'max_steps': 3}, 'headers': {'Authorization': ['***', '***']}, 'token': True}
    """
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        named = next((value[key] for key in ("name", "key", "header") if isinstance(value.get(key), str)), "")
        told = is_secret_key(named)  # {"name": "X-Api-Key", "value": …}
        return {
            key: _hidden(inner) if is_secret_key(str(key)) or (told and key == "value") else mask_secrets(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], str) and is_secret_key(value[0]):
            return [value[0], _hidden(value[1])]
        return (
            [mask_secrets(inner) for inner in value]
            if isinstance(value, list)
            else tuple(mask_secrets(v) for v in value)
        )
    return value


def _hidden(value: Any) -> Any:
    """What stands under a secret's key, with each value in it masked that `_is_secret_value` holds for secret."""
    if isinstance(value, Mapping):
        return {key: _hidden(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return MASK if _is_secret_value(value) else value


def _is_secret_value(value: Any) -> bool:
    """Whether a value under a secret's key is secret. A switch (`token: true`), a small number, a token of the
    vocabulary (`<|im_end|>`) and the name of a variable (`${HF_TOKEN}`) are not."""
    if isinstance(value, str):
        return bool(value.strip()) and not MARK.fullmatch(value) and not re.fullmatch(r"\$\{?\w+\}?", value)
    return type(value) is int and abs(value) > 999


def mask_text(text: str) -> str:
    """A text with every secret in it as `***`: known values, passwords in URLs, `api_key=…`, forms such as `hf_…`.

    >>> mask_text("https://me:pw@example.org/v1?api_key=abc&n=1 --set judge.api_key=abc Authorization: Bearer q1w2e3")
    'https://***@example.org/v1?api_key=***&n=1 --set judge.api_key=*** Authorization: ***'
    """
    text = mask_known(text)
    if "=" in text or ":" in text:
        text = BEARER.sub(rf"\1 {MASK}", "".join(_assigned(text)))
    return FLAG.sub(_flag, text) if "--" in text else text


def mask_known(text: str) -> str:
    """A text without known secret values, tokens of a known form and passwords in URLs.

    It does not look for `name=value`, so it can be used on pieces of a text, such as the writes to a stream.
    """
    for secret in known_secrets():
        if secret in text:
            # A short secret may be part of an ordinary word.
            bounded = rf"(?<!\w){re.escape(secret)}(?!\w)" if len(secret) < 12 else re.escape(secret)
            text = re.sub(bounded, MASK, text)
    if "://" in text:
        text = USER.sub(rf"\1{MASK}@", text)
        text = re.sub(r"([?&]key=)[^&\s\"']+", rf"\1{MASK}", text)
    return FORMS.sub(MASK, text)


def _assigned(text: str) -> Iterator[str]:
    """The pieces of a text, with what is assigned to a secret's name masked."""
    done = at = 0
    while head := HEAD.search(text, at):
        at = head.end()
        # "unknown token: x" is prose, "api_token: x" and "token=x" are not.
        prose = head["sign"] == ":" and head["name"].lower() in ("token", "auth", "secret")
        value = VALUE.match(text, at) if not prose and is_secret_key(head["name"]) else None
        if value is None:
            continue
        bare = value[0].strip("\"'")
        at = value.end()
        if bare.lower() in ("true", "false", "null", "none") or not _is_secret_value(bare):
            continue
        edge = value[0][0] if value[0][0] in "\"'" else ""
        yield f"{text[done : value.start()]}{edge}{MASK}{edge if value[0].endswith(edge) else ''}"
        done = at
    yield text[done:]


def _flag(found: re.Match[str]) -> str:
    """An option of a command line with its value, such as `--api-key sk-1` or `--token=x`, masked if it is secret."""
    secret = is_secret_key(found["name"]) and _is_secret_value(found["value"])
    return f"{found['name']}{found['between']}{MASK}" if secret else found[0]


def mask_command(arguments: Sequence[str]) -> str:
    """A command line as one line, without its secrets.

    >>> mask_command(["medrft", "run", "r.yaml", "--set", "stages.sft.trl.hub_token=a b", "--api-key", "x", "--seed=1"])
    'medrft run r.yaml --set stages.sft.trl.hub_token=*** --api-key *** --seed=1'
    """
    kept: list[str] = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        name, equals, value = argument.partition("=")
        if before.startswith("--") and "=" not in before and is_secret_key(before):
            kept.append(MASK)
        elif equals and is_secret_key(name) and _is_secret_value(value):
            kept.append(f"{name}={MASK}")
        else:
            kept.append(mask_text(argument))
    return " ".join(kept)


def remember_secret(value: str | None) -> None:
    """Mask a value from now on wherever it turns up. One under six characters is too short to tell from other text."""
    if value and len(value) >= 6 and value != MASK and _is_secret_value(value):
        for form in (value, quote(value, safe="")):
            _remembered[form] = None


def remember_secrets(table: Any) -> None:
    """Remember every value that stands under a secret's key in a table."""
    for _, value in _secrets(table, "", under=False):
        remember_secret(str(value))


def secret_paths(table: Any) -> list[str]:
    """Dotted keys under which a table holds a secret, masked or not.

    >>> secret_paths({"stages": [{"name": "sft", "trl": {"hub_token": "***"}}]})
    ['stages.sft.trl.hub_token']
    """
    return [path for path, _ in _secrets(table, "", under=False)]


def masked_paths(table: Any) -> list[str]:
    """Dotted keys whose secret is already `***`, because a run wrote the table."""
    return [path for path, value in _secrets(table, "", under=False) if value == MASK]


def _secrets(value: Any, path: str, *, under: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items: Iterable[tuple[str, Any]] = ((str(key), inner) for key, inner in value.items())
    elif isinstance(value, list | tuple):
        names = (inner.get("name") if isinstance(inner, Mapping) else None for inner in value)
        items = ((str(name or i), inner) for i, (name, inner) in enumerate(zip(names, value, strict=True)))
    else:
        if under and _is_secret_value(value):
            yield path, value
        return
    for key, inner in items:
        place = f"{path}.{key}" if path else key
        yield from _secrets(inner, place, under=under or (isinstance(value, Mapping) and is_secret_key(key)))


def known_secrets() -> list[str]:
    """Values to mask: remembered ones, and those of environment variables named like a secret; longest first."""
    named = (value for name, value in os.environ.items() if is_secret_key(name))
    found = {value.strip() for value in named if len(value.strip()) >= 8 and not value.startswith(("/", "~", "."))}
    return sorted({*found, *_remembered}, key=len, reverse=True)


def names_endpoint(text: str) -> bool:
    """Whether a text holds settings of an endpoint or a masked secret; then only its owner may read the file."""
    return ENDPOINT.search(text) is not None


class MaskedStream:
    """A stream that masks what is written to it, and otherwise behaves as the stream it wraps."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets; returns the length of the whole text, as callers expect."""
        self._stream.write(mask_known(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
