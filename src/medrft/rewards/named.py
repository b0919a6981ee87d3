"""From what a user calls a reward to the reward: a preset's name, a table, a YAML file with a reward, or a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medrft.config import ClinicalConfig, CorrectConfig, EncoderConfig, Recipe
from medrft.errors import RecipeError
from medrft.outgoing import is_private, refuse_private, servers_in
from medrft.recipes import first_problems, found_files, read_yaml, without_unset
from medrft.reward_config import Shape
from medrft.rewards import Reward, build_reward, resolve_stacks
from medrft.scorers.clinical.own import own_lexicon

Options = Mapping[str, Mapping[str, Any]]


class _Settings(Shape):
    """What a recipe says of its reward outside `reward:`."""

    encoder: EncoderConfig = EncoderConfig()
    clinical: ClinicalConfig = ClinicalConfig()
    correct: CorrectConfig = CorrectConfig()


@dataclass(frozen=True, kw_only=True)
class RewardFile:
    """The tables and settings that a user's name for a reward stands for, before anything is built."""

    name: str
    table: Any
    """A preset's name, or tables as a recipe's `reward:` holds them."""
    encoder: EncoderConfig
    clinical: ClinicalConfig
    correct: CorrectConfig
    base_dir: Path | None = None
    """Where a user's `file.py:Name` is looked for."""
    private: bool = False

    def settings(self) -> dict[str, Any]:
        """All settings that the scores depend on, as JSON."""
        stacks = {key: stack.model_dump(mode="json") for key, stack in resolve_stacks(self.table).items()}
        named = {key: getattr(self, key).model_dump(mode="json") for key in _Settings.model_fields}
        return {**named, "stacks": found_files(stacks, self.base_dir or Path())}


@dataclass(frozen=True, kw_only=True)
class NamedReward:
    """A reward, with the file or table from which it was built."""

    reward: Reward
    file: RewardFile = field(repr=False)

    @property
    def name(self) -> str:
        """The name as the user wrote it."""
        return self.file.name

    @property
    def encoder(self) -> str:
        """The encoder's hub id or folder."""
        return self.file.encoder.id


def read_reward(
    spec: str | Path | Mapping[str, Any],
    *,
    encoder: str | None = None,
    bertscore: str | None = None,
    lexicon: Sequence[str | Path] = (),
) -> RewardFile:
    """Read a preset's name, a table, or a YAML file with a reward or a recipe, as a run of that recipe would.

    `encoder` replaces the file's encoder, that of BERTScore too unless `bertscore` names another. `lexicon` are files
    for the clinical scorer, in addition to the recipe's.
    Raises `RecipeError` for a file that does not exist or holds neither.
    """
    table: Any = spec
    whole: Mapping[str, Any] = {}
    path = Path() if isinstance(spec, Mapping) else Path(spec)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RecipeError(f"no reward file at {path}; pass a preset's name or a YAML file")
        table = read_yaml(path)
        if not isinstance(table, Mapping | str):
            what = f"{path} holds a {type(table).__name__}"
            raise RecipeError(f"{what}; a reward is a preset's name or a table of parts, a recipe a table of keys")
        if isinstance(table, Mapping) and {"reward", "data", "stages"} & set(table):
            whole = found_files(without_unset(table), path.parent)
            table = whole.get("reward", Recipe.model_fields["reward"].default)
    try:
        given = _Settings.model_validate({key: whole[key] for key in _Settings.model_fields if key in whole})
    except ValidationError as error:
        raise RecipeError(f"{path}: {first_problems(error)}") from error
    if path.suffix in (".yaml", ".yml"):
        try:
            resolve_stacks(table)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error
    config = given.encoder
    if encoder:
        config = config.model_copy(update={"id": encoder, "bertscore": None})
    if bertscore:
        config = config.model_copy(update={"bertscore": bertscore})
    return RewardFile(
        name="the reward" if isinstance(spec, Mapping) else str(spec),
        table=table,
        encoder=config,
        clinical=given.clinical.model_copy(update={"lexicon": (*given.clinical.lexicon, *map(str, lexicon))}),
        correct=given.correct,
        base_dir=path.parent if path.suffix else None,
        private=is_private(whole),
    )


def load_reward(
    spec: str | Path | Mapping[str, Any],
    *,
    encoder: str | None = None,
    bertscore: str | None = None,
    lexicon: Sequence[str | Path] = (),
    options: Options | None = None,
) -> NamedReward:
    """Build the reward that `read_reward` finds; `options` are further options by scorer.

    Raises `RecipeError` as `read_reward` does, and if private data would leave this machine.
    """
    found = read_reward(spec, encoder=encoder, bertscore=bertscore, lexicon=lexicon)
    refuse_private(found.private, [*servers_in(found.table, "reward"), *servers_in(options or {}, "--option")])
    if found.clinical.lexicon:
        own_lexicon(found.clinical.lexicon)  # a bad file is told even if no part is clinical
    reward = build_reward(
        found.table,
        encoder=found.encoder,
        clinical=found.clinical,
        correct=found.correct,
        base_dir=found.base_dir,
        options=options,
    )
    return NamedReward(reward=reward, file=found)
