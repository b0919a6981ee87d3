"""Scores a folder of Parquet files over a Ray cluster: one row out for each row in, with its reward and parts.

    python examples/ray_scoring.py rows/ scored/ --address ray://head-node:10001 --workers 16
    python examples/ray_scoring.py rows/ scored/                                   # Ray on this machine

`text` learns nothing. For `armed_clinical` fit a state first (medrft score SOME_ROWS.jsonl --reward armed_clinical
--fit state.json) and put it where every worker can read it. Every node needs medrft (for `armed*`: 'medrft[encoder]').
"""

import argparse

from medrft.errors import naming_extras
from medrft.integrations.ray_data import RayScorer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", help="a folder or file of Parquet that every node can read: reference, answer, …")
    parser.add_argument("output", help="a folder that every node can write")
    parser.add_argument("--reward", default="text")
    parser.add_argument("--state", help="a file of `medrft score --fit`, for a reward that learns")
    parser.add_argument(
        "--address", default="local", help="ray://HOST:10001, `auto` on a node of the cluster, or local"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that score, a core each")
    options = parser.parse_args()
    with naming_extras():
        import ray
    RayScorer(options.reward, state=options.state)  # what is wrong with the reward is told here, not by a worker
    ray.init(address=options.address)
    rows = ray.data.read_parquet(options.rows)
    scored = rows.map_batches(
        RayScorer,
        fn_constructor_args=(options.reward,),
        fn_constructor_kwargs={"state": options.state},
        concurrency=options.workers,
        batch_size=2048,
        batch_format="pyarrow",
    )
    scored.write_parquet(options.output)


if __name__ == "__main__":
    main()
