"""A trainer that says what its watch finds: on the console, in `warnings.jsonl`, and in its log for every tracker."""

from __future__ import annotations

import sys

from transformers import Trainer

from medrft.rundir import RunDir
from medrft.training.callbacks import metrics_row
from medrft.training.watch import Finding, Watch


class Watched(Trainer):  # type: ignore[misc]
    """Mixin that stands behind TRL's trainer, so that it sees the log with TRL's metrics and before any tracker."""

    watch: Watch
    run: RunDir

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Judge a training row, add `warning/<cause>` to it, and tell what begins."""
        found = metrics_row(logs)
        if found is not None and found[0] == "train":
            begun = self.watch.take(self.state.global_step, found[1])
            logs |= self.watch.metrics()
            if self.is_world_process_zero():
                for finding in begun:
                    self._tell(finding)
        super().log(logs, start_time)

    def _tell(self, finding: Finding) -> None:
        """One row, and one line on standard error, which the progress bar puts above itself."""
        self.run.append_warning(finding.row())
        sys.stderr.write(f"warning: {finding.line()}\n")
