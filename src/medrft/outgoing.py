"""Finds out from a recipe what is sent to other machines: to judges, teachers, models under test, trackers and the hub.

Each recipient is named in one line before its first request. With `data.private: true` all of them are refused before
anything runs. Loopback addresses count as this machine. Downloads of weights, data sets or encoders do not count,
because nothing of the user's is sent for them.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from medrft.errors import RecipeError
from medrft.masking import mask_text

JUDGED = "questions, references and answers"
PICTURES = "pictures and questions"

TRACKERS: Mapping[str, tuple[str, str]] = {
    "wandb": ("WANDB_BASE_URL", "https://api.wandb.ai"),
    "comet_ml": ("COMET_URL_OVERRIDE", "https://www.comet.com"),
    "mlflow": ("MLFLOW_TRACKING_URI", ""),
    "neptune": ("", "https://app.neptune.ai"),
    "clearml": ("CLEARML_API_HOST", "https://app.clear.ml"),
    "dagshub": ("MLFLOW_TRACKING_URI", "https://dagshub.com"),
    "swanlab": ("SWANLAB_API_HOST", "https://swanlab.cn"),
    "azure_ml": ("", "Azure ML"),
    "kubeflow": ("", "Kubeflow"),
    "flyte": ("", "Flyte"),
    "trackio": ("", ""),
}
"""Name in `report_to` -> the variable that names its server, and its server without that; empty: this machine."""
OFFLINE = {"wandb": "WANDB_MODE", "swanlab": "SWANLAB_MODE", "comet_ml": "COMET_START_ONLINE"}
SPACES = ("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")

_told: set[str] = set()


@dataclass(frozen=True, kw_only=True)
class Recipient:
    """One place outside this machine, and what it is sent."""

    key: str
    """The recipe's key or the option that names it."""
    who: str
    where: str
    """An address, or a service's name."""
    what: str

    @property
    def line(self) -> str:
        """The sentence that says who gets what."""
        return f"{self.who} at {mask_text(self.where)} gets {self.what}"


def is_loopback(address: str) -> bool:
    """Whether a URL or host is this machine.

    >>> [is_loopback(a) for a in ("http://localhost:8000/v1", "127.0.0.2", "http://[::1]:80", "0.0.0.0", "a.localhost")]
    [True, True, True, True, True]
    >>> [is_loopback(a) for a in ("http://10.0.0.5:8000", "https://api.example.org", "localhost.example.org", "")]
    [False, False, False, False]
    """
    host = urlsplit(address).hostname if "://" in address else address.rpartition("@")[2].strip("[]")
    host = (host or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    # "::ffff:127.0.0.1" is an IPv4 address written as IPv6; and 0.0.0.0, as a destination, reaches this machine.
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback or found.is_unspecified or bool(mapped and mapped.is_loopback)


def announce_recipients(recipients: Iterable[Recipient]) -> None:
    """Log one line for each recipient, once per process, through the logger `medrft` (standard error)."""
    for recipient in recipients:
        if recipient.line not in _told:
            _told.add(recipient.line)
            logging.getLogger("medrft").warning("medrft: %s", recipient.line)


def refuse_private(private: bool, recipients: Sequence[Recipient]) -> None:
    """Raise `RecipeError` naming the keys to take out, if data are private and would be sent anywhere."""
    if private and recipients:
        told = "; ".join(f"{recipient.key} ({recipient.line})" for recipient in recipients)
        keys = "this key" if len(recipients) == 1 else "these keys"
        raise RecipeError(f"data.private is true, so nothing may leave this machine; take {keys} out: {told}")


def is_private(table: Any) -> bool:
    """Whether a recipe, as a plain table, says that its data are private."""
    data = table.get("data") if isinstance(table, Mapping) else None
    return bool(isinstance(data, Mapping) and data.get("private"))


def recipients_of(table: Mapping[str, Any]) -> list[Recipient]:
    """All that a recipe, as a plain table, would send to other machines."""
    found = [*servers_in(table.get("reward"), "reward"), *servers_in(table.get("correct"), "correct")]
    found += servers_in((table.get("eval") or {}).get("judge"), "eval.judge")
    for stage in table.get("stages") or ():
        trl, where = stage.get("trl") or {}, f"stages.{stage.get('name')}.trl"
        found += [*_trackers(trl, where), *_hub(trl, where), *_generators(trl, where)]
    return list({recipient.key: recipient for recipient in found}.values())


def servers_in(value: Any, path: str, *, table: Mapping[str, Any] | None = None) -> Iterator[Recipient]:
    """Addresses on other machines anywhere in a reward or in scorers' options; `path` is the key of `value`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from servers_in(inner, f"{path}.{key}", table=value)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from servers_in(inner, f"{path}.{number}", table=table)
    elif isinstance(value, str) and value.lower().startswith(("http://", "https://")) and not is_loopback(value):
        model = (table or {}).get("model")
        yield judge_at(path, model=str(model or ""), where=value, thoughts=(table or {}).get("task") == "reasoning")


def judge_at(key: str, *, model: str, where: str, thoughts: bool) -> Recipient:
    """A judge's server and what it is sent."""
    what = "questions, references, answers and thoughts" if thoughts else JUDGED
    return Recipient(key=key, who=f"judge {model}".strip(), where=where, what=what)


def _trackers(trl: Mapping[str, Any], where: str) -> Iterator[Recipient]:
    """Experiment trackers. They get metrics and settings; completions only if `log_completions` asks for that."""
    names = trl.get("report_to") or ()
    wanted = [names] if isinstance(names, str) else list(names)
    if "all" in wanted:
        wanted = [name for name in TRACKERS if importlib.util.find_spec(name) is not None]
    for name in wanted:
        server = _tracker_server(name, trl) if name in TRACKERS else ""
        if server and not is_loopback(server):
            texts = ", questions, completions and pictures" if trl.get("log_completions") and name in TABLES else ""
            yield Recipient(key=f"{where}.report_to", who=name, where=server, what=f"metrics and settings{texts}")


def _tracker_server(name: str, trl: Mapping[str, Any]) -> str:
    """The server that a tracker sends to; empty if it writes to this machine's disk."""
    if os.environ.get(OFFLINE.get(name, ""), "").lower() in ("offline", "disabled", "dryrun", "local", "0"):
        return ""
    if name == "trackio":
        space = next((trl[key] for key in SPACES if trl.get(key)), os.environ.get("TRACKIO_SPACE_ID"))
        return _hub_address(str(space)) if space else ""
    variable, server = TRACKERS[name]
    server = os.environ.get(variable) or server
    return "" if server.startswith(("file:", "sqlite:", "/", ".")) else server


TABLES = ("wandb", "trackio")
"""Trackers that TRL's `log_completions` sends to."""


def _hub(trl: Mapping[str, Any], where: str) -> Iterator[Recipient]:
    if trl.get("push_to_hub"):
        place = _hub_address(str(trl.get("hub_model_id") or ""))
        yield Recipient(
            key=f"{where}.push_to_hub", who="the hub", where=place, what="the trained weights and their card"
        )
    if repo := trl.get("log_completions_hub_repo"):
        what = "questions and completions"
        yield Recipient(
            key=f"{where}.log_completions_hub_repo", who="the hub", where=_hub_address(str(repo)), what=what
        )


def _generators(trl: Mapping[str, Any], where: str) -> Iterator[Recipient]:
    """A vLLM server that writes the rollouts."""
    for key in ("vllm_server_base_url", "vllm_server_host"):
        place = trl.get(key)
        if place and trl.get("use_vllm") and trl.get("vllm_mode", "server") == "server" and not is_loopback(str(place)):
            yield Recipient(key=f"{where}.{key}", who="vLLM", where=str(place), what=f"{PICTURES}, and the weights")
            return


def _hub_address(repository: str) -> str:
    return f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')}/{repository}".rstrip("/")
