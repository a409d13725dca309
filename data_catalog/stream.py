"""The stream: which samples arrive at which step, and what one step of training sees."""

from pydantic import Field

from data_catalog.refs import Ref, Spec


class StepSummary(Spec):
    """One step of a stream in a few numbers."""

    name: str  # e.g. "step 3"
    concepts: int
    samples: int
    datasets: tuple[str, ...]


class StreamPlan(Ref):
    """A composed stream; the digest names one Parquet file with a row per (step, sample).

    Rows of the pretraining pool carry step -1; see PLAN for the columns.
    """

    steps: tuple[StepSummary, ...]
    pretraining_samples: int = Field(ge=0)


class StepPlan(Ref):
    """Everything one update sees, in the order it sees it; the digest names a Parquet file with one row per draw.

    Row k * batch_size + i is position i of the batch of iteration k.
    """

    step: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    iterations: int = Field(ge=1)
    samples: dict[str, int]  # pool -> draws
