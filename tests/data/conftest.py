"""Fixtures for the tests of data sets: real samples, and rows as the hub stores them."""

import pyarrow
import pyarrow.parquet
import pytest


@pytest.fixture
def samples(shared_data):
    root = shared_data / "samples"
    return root if root.is_dir() else pytest.skip(f"no samples at {root}")


@pytest.fixture
def parquet(tmp_path, image_file):
    """`parquet(name, rows)` writes rows as the hub does; an int under `image` becomes an image of that shade."""

    def write(name, rows, root=tmp_path / "hub"):
        filled = []
        for row in rows:
            encoded = image_file(tmp_path / "made" / f"{row['image']}.png", row["image"]).read_bytes()
            filled.append({**row, "image": {"bytes": encoded, "path": "x.png"}})
        (root / "data").mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(filled), root / "data" / name)
        return root

    return write
