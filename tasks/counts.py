"""Progress of stages that count images or tiles: `progress_of` for functions that tell (label, done, in all)."""

import contextlib
import math
from collections.abc import Iterator

from models.embeddings import Progress
from tasks.progress import progress_of


@contextlib.contextmanager
def counts_of(label: str) -> Iterator[Progress]:
    """A function that a long stage calls with (what it is doing, done, in all); it has no loss to tell."""
    with progress_of(label) as tell:
        yield lambda _, done, total: tell(done, total, math.nan)
