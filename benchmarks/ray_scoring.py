"""When does Ray Data pay for scoring? The same rows through a plain loop, and through Ray Data with its workers.

python benchmarks/ray_scoring.py --reward text --rows 10000 100000 1000000
python benchmarks/ray_scoring.py --reward armed --state state.json --rows 500 2000 8000

Both sides read the rows from one Parquet file and write another. The loop is one process, on one thread as a Ray worker
is. Ray's time is given with and without its start. A table of JSON lines; docs/integrations.md quotes them.
"""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

from score_shards import WORDS

from medrft.errors import naming_extras


def write_rows(path, n):
    """Made-up open answers of one to six words; nearly all differ, so that no cache of texts helps."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = random.Random(0)
    texts = [[" ".join(rng.choices(WORDS, k=rng.randint(1, 6))) for _ in range(n)] for _ in range(2)]
    pq.write_table(pa.table({"id": range(n), "reference": texts[0], "answer": texts[1]}), path, row_group_size=2048)


def loop(path, output, reward, state):
    """One process: batches from Parquet, scored, to Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from medrft.integrations.ray_data import RayScorer

    scorer = RayScorer(reward, state=state)
    batches = (scorer(pa.Table.from_batches([batch])) for batch in pq.ParquetFile(path).iter_batches(2048))
    first = next(batches)
    with pq.ParquetWriter(output, first.schema) as writer:
        writer.write_table(first)
        for table in batches:
            writer.write_table(table)


def over_ray(path, output, reward, state, workers):
    import ray
    from medrft.integrations.ray_data import RayScorer

    rows = ray.data.read_parquet(str(path), override_num_blocks=4 * workers)
    rows.map_batches(
        RayScorer, fn_constructor_args=(reward,), fn_constructor_kwargs={"state": state},
        concurrency=workers, batch_size=2048, batch_format="pyarrow",
    ).write_parquet(str(output))  # fmt: skip


def total(path):
    """The sum of all rewards: both sides must agree."""
    import pyarrow.parquet as pq

    return round(sum(value for value in pq.read_table(path)["reward"].to_pylist() if value is not None), 6)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reward", default="text")
    parser.add_argument("--state", help="a file of `medrft score --fit`, for rewards that learn")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    state = options.state and str(Path(options.state).resolve())
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded; Ray does the same for a worker with one core

    with naming_extras():
        import ray
    ray_start = time.perf_counter()
    # The tasks that read and write take a core each; without two more they would wait for the workers for ever.
    ray.init(address="local", num_cpus=options.workers + 2, include_dashboard=False, log_to_driver=False)
    ray_start = time.perf_counter() - ray_start
    ray.data.DataContext.get_current().enable_progress_bars = False
    with tempfile.TemporaryDirectory() as folder:
        for n in options.rows:
            path, one, two = (Path(folder) / name for name in (f"{n}.parquet", f"{n}.loop.parquet", f"{n}.ray"))
            write_rows(path, n)
            begin = time.perf_counter()
            loop(path, one, options.reward, state)
            plain = time.perf_counter() - begin
            begin = time.perf_counter()
            over_ray(path, two, options.reward, state, options.workers)
            spread = time.perf_counter() - begin
            assert total(one) == total(two)
            facts = {"reward": options.reward, "rows": n, "loop_s": plain, "ray_s": spread, "ray_start_s": ray_start}
            print(json.dumps({key: round(v, 2) if isinstance(v, float) else v for key, v in facts.items()}), flush=True)


if __name__ == "__main__":
    main()
