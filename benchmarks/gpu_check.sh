#!/bin/sh
# What only a GPU can say, in at most 8 minutes: the `gpu` tests, GRPO updates and rollouts with shared prompts and without
# at the real shapes of Qwen2.5-VL-3B and Qwen3.5-0.8B with random weights, peak memory against `medrft run --plan`, and
# ten steps of recipes/armed_1gpu.yaml. `--grid --minutes 600` has all lengths and groups.
#
#   benchmarks/gpu_check.sh OUT [WHEELS] [--device cpu --tiny] [--grid] [--minutes N]
#
# OUT gets one JSON file for each case (a case that is done is not run again) and gpu_check.json with all of them. WHEELS is
# a folder of wheels for a machine without internet, made elsewhere with
#   pip download -d WHEELS transformers==5.23.* trl==1.16.* peft accelerate datasets pytest -c constraints.txt
# torch is the machine's own (2.11 or later). Nothing outside OUT is written but a virtual environment beside it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { sed -n '2,11p' "$0"; exit 2; }
out=$1
shift
wheels=
case "${1:-}" in --* | "") ;; *) wheels=$1; shift ;; esac
mkdir -p "$out"
python=${PYTHON:-python3}
if [ -n "$wheels" ]; then
    [ -x "$out/venv/bin/python" ] || "$python" -m venv --system-site-packages "$out/venv"
    python=$out/venv/bin/python
    "$python" -c "import trl, pytest" 2>/dev/null || "$python" -m pip install --quiet --no-index --find-links "$wheels" \
        transformers trl peft accelerate datasets pydantic pyyaml typer rich pillow pyarrow jinja2 pytest
fi
PYTHONPATH=$here/src:$here HF_HUB_OFFLINE=1 exec "$python" "$here/benchmarks/gpu_check.py" "$out" "$@"
