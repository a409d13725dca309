"""Validation images: training images that are kept out of training, so that choices need no test image.

Whether a sample is one follows from its id alone: no seed and no other sample can move it, so data that arrive later
leave the earlier steps of a stream as they were.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import eval_sets, store
from data_catalog.eval_sets import EvalSet
from data_catalog.exclusions import Exclusions, dropped, exclude
from data_catalog.refs import Spec
from data_catalog.sample_columns import read_columns
from data_catalog.shards import DatasetRef

HELD_OUT = "validation images"  # the cause of what `hold_out` leaves out
SPLIT = "train"  # that validation images are taken from


class Validation(Spec):
    """Which training images of each dataset are kept out of training to choose by."""

    share: float = Field(0.1, gt=0, lt=1)  # of the training images of each dataset that no step trains on
    most: int = Field(500, ge=1)  # of these, per dataset, that checkpoints are scored on
    without: tuple[str, ...] = ()  # datasets to choose without, such as those without training images


def validation_name(dataset: str) -> str:
    """What the validation set of a dataset is called in reports, where the plain name is that of its test set."""
    return f"{dataset}/validation"


def hold_out(datasets: Sequence[DatasetRef], validation: Validation) -> Exclusions:
    """The validation images of `datasets`, as samples that plans leave out; those of `without` keep all theirs."""
    names: list[str] = []
    for dataset in datasets:
        if dataset.name not in validation.without:
            ids = _training_ids(dataset)
            names += ids.filter(pa.array(places(ids) < validation.share)).to_pylist()
    return exclude(dict.fromkeys(names, "validation"), "drop", HELD_OUT, validation=validation)


def compose_validation_set(
    dataset: DatasetRef, validation: Validation, exclusions: Sequence[Exclusions] = (), templates: Sequence[str] = ()
) -> EvalSet:
    """The first `most` validation images of a dataset by `places`, in the order of its metadata file.

    Images that `exclusions` drop for another reason than being held out are left out: removed ones, and twins of test
    images. `templates`: as of `eval_sets.compose_chosen_set`. Raises ValueError if none is left.
    """
    samples = store.read_table(dataset.digest).filter(pc.field("split") == SPLIT)
    place = places(samples["id"].combine_chunks())
    chosen = place < validation.share
    chosen &= ~dropped(samples["id"], [some for some in exclusions if some.cause != HELD_OUT])
    if not chosen.any():
        raise ValueError(
            f"none of the {len(place)} training images of {dataset.name} is a validation image: raise "
            f"`evaluation.validation.share` (now {validation.share}) or name it in `evaluation.validation.without`"
        )
    first = np.flatnonzero(chosen)
    first = np.sort(first[np.argsort(place[first], kind="stable")[: validation.most]])
    return eval_sets.eval_set(
        dataset, samples.take(pa.array(first)), validation_name(dataset.name),
        {"stage": "compose_validation_set", "dataset": dataset, "validation": validation}, templates=templates,
    )  # fmt: skip


def places(ids: pa.Array) -> np.ndarray:
    """A number in [0, 1) for each sample, from its id alone; below `share` it is a validation image."""
    digests = b"".join(sha256(f"validation/{name}".encode()).digest()[:8] for name in ids.to_pylist())
    return (np.frombuffer(digests, ">u8") >> 11) / 2.0**53


def _training_ids(dataset: DatasetRef) -> pa.Array:
    table = read_columns(dataset, ["id", "split"])
    return table["id"].filter(pc.equal(table["split"], SPLIT)).combine_chunks()
