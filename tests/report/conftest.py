from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for made_run, which tests here share

from made_run import make_run


@pytest.fixture(scope="session")
def phantom_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on data that the phantom's oracle knows."""
    return make_run(tmp_path_factory.mktemp("runs") / "phantom")


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on other data: no judge, no figure pooled over kinds."""
    return make_run(tmp_path_factory.mktemp("runs") / "vqa_rad", dataset="vqa_rad")
