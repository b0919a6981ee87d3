"""Ray Data 2.60: the rows as a data set over two local workers, in batches and in groups."""

import pytest

pytest.importorskip("ray")

from ray.data import DataContext

import ray
from contract import EXACT, ROWS, make_case
from medrft.integrations.ray_data import RayScorer
from medrft.rewards.named import load_reward
from medrft.rewards.rows import read_row

WORKERS = 2
RANKS = {"parts": [{"scorer": "rouge1", "weight": 1.0, "calibrate": "rank"}]}


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    # Two more than the workers hold: with none left the shuffle of `groupby` waits for ever.
    ray.init(address="local", num_cpus=WORKERS + 2, include_dashboard=False, log_to_driver=False)
    DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def rows():
    """All rows ten times over, in eight blocks; a group is a question of one round."""
    made = [{**row, "n": n, "place": i, "group": f"{row['id']}/{n}"} for n in range(10) for i, row in enumerate(ROWS)]
    return ray.data.from_items(made, override_num_blocks=8)


def in_order(data):
    """What came back, by round and place in the file."""
    return sorted(data.take_all(), key=lambda row: (row["n"], row["place"]))


def list_of(reference):
    return [reference] if isinstance(reference, str) else list(reference)


def as_score(value):
    return None if value is None or value != value else value


@pytest.mark.parametrize("batch_format", ["pyarrow", "numpy"])
def test_the_numbers_are_ours(case, batch_format):
    settings = {"fn_constructor_args": (case.reward,), "fn_constructor_kwargs": case.settings}
    made = in_order(
        rows().map_batches(RayScorer, batch_size=50, batch_format=batch_format, concurrency=WORKERS, **settings)
    )
    assert [as_score(row["reward"]) for row in made] == pytest.approx(case.expected * 10, abs=EXACT)
    assert [row["unscored_reason"] for row in made] == [one.unscored_reason for one in case.outcomes] * 10


def test_groups_stay_whole():
    data = rows().groupby("group").map_groups(
        RayScorer, fn_constructor_args=(RANKS,), fn_constructor_kwargs={"group": "group"},
        concurrency=WORKERS, batch_format="pyarrow",
    )  # fmt: skip
    read = [read_row(row, where=row["id"]).item for row in ROWS]
    ours = load_reward(RANKS).reward(read, groups=[row["id"] for row in ROWS])
    assert [as_score(row["reward"]) for row in in_order(data)] == pytest.approx([one.reward for one in ours] * 10)


def test_a_reward_that_learns_ends_the_job_with_what_to_do(tmp_path):
    learns = make_case("fitted", tmp_path).reward
    with pytest.raises(ray.exceptions.RayError, match=r"no state.*--fit state.json"):
        rows().map_batches(RayScorer, fn_constructor_args=(learns,), concurrency=WORKERS).materialize()


def test_from_parquet_to_parquet(tmp_path):
    # A column of texts and lists would be pickled, and Ray refuses to read that back.
    rows().map(lambda row: {**row, "reference": list_of(row["reference"])}).write_parquet(tmp_path / "rows")
    data = ray.data.read_parquet(tmp_path / "rows").map_batches(
        RayScorer, fn_constructor_args=("text",), concurrency=WORKERS, batch_format="pyarrow"
    )
    data.write_parquet(tmp_path / "scored")
    back = in_order(ray.data.read_parquet(tmp_path / "scored"))
    ours = load_reward("text").reward([read_row(row, where=row["id"]).item for row in ROWS])
    assert [as_score(row["reward"]) for row in back] == pytest.approx([one.reward for one in ours] * 10, abs=EXACT)
