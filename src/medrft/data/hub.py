"""From the name of a data set on the Hugging Face hub to its rows. Only this module of `data` imports `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medrft.data.tables.rows import Row
from medrft.errors import DataError
from medrft.hub import hub_silence, without_hub


def hub_name(root: Path | None) -> str | None:
    """The data set's name on the hub where a root is `hf:owner/name`, else `None`."""
    text = str(root)
    return text.removeprefix("hf:") if root is not None and text.startswith("hf:") else None


def hub_rows(name: str, *, subset: str | None, revision: str | None) -> Iterator[Row]:
    """Every row of a hub data set (or a local folder that `datasets` reads), images as their encoded bytes.

    Raises `DataError` if it cannot be loaded: a wrong name, no network, or several subsets and none chosen.
    """
    silence = hub_silence(name)
    import datasets

    if silence is not None:
        datasets.config.HF_HUB_OFFLINE = True  # a copy of huggingface_hub's switch, which `datasets` makes on import
    try:
        splits = datasets.load_dataset(name, subset, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if silence is not None:
            raise DataError(f"cannot load {name!r}: {without_hub(silence, name)}") from error
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot load {name!r} from the hub: {first[:300]} (check the name, the network, HF_TOKEN for a gated "
            "one; a data set with several subsets needs --set subset=NAME)"
        ) from error
    for split, part in splits.items():
        labels = {key: value.names for key, value in part.features.items() if isinstance(value, datasets.ClassLabel)}
        number = 0
        # Arrow rows hold images as encoded bytes; iterating over the data set itself would decode every one of them.
        for batch in part.with_format("arrow").iter(batch_size=64):
            for row in batch.to_pylist():
                # -1 is how `datasets` writes a class that is not known; as an index it would be the last name.
                named = {k: labels[k][v] for k, v in row.items() if k in labels and v is not None and v >= 0}
                yield Row(number=number, split=str(split), values={**row, **named})
                number += 1
