"""The shape of `curate:` in a recipe: how ARMed's data stage thins answers and gathers thoughts (docs/armed.md).

The paper publishes neither tau nor the cluster counts, and nothing of its checks: every default is ours.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CurateConfig(BaseModel):
    """How `medrft curate` and stages with `curate:` choose pairs and keep thoughts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tau: int = Field(default=50, ge=1)
    """An answer that more train rows than this have is frequent, and thinned."""
    clusters: int | None = Field(default=None, gt=0)
    """K-means clusters, so pairs left, of each frequent answer; by default `tau`, so that none ends up rarer."""
    long_tail: Literal["keep", "drop"] = "keep"
    """What becomes of the pairs whose answer is not frequent."""
    tries: int = Field(default=4, gt=0)
    """Thoughts sampled for a pair until one passes."""
    temperature: float = Field(default=0.7, gt=0)
    min_words: int = Field(default=5, gt=0)
    """Shorter thoughts are dropped."""
    near_identical: float | None = Field(default=0.9, gt=0, le=1)
    """Drop a thought whose word trigrams overlap this much (Jaccard) with one kept for another question."""

    @property
    def left(self) -> int:
        """Pairs that a frequent answer keeps, at most."""
        return self.clusters or self.tau
