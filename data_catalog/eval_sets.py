"""Evaluation sets: the images of one split with what they are scored against."""

import json
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.exclusions import Exclusions
from data_catalog.refs import Ref
from data_catalog.shards import DatasetRef, facts

IMAGE_COLUMNS = ("id", "concept", "target", "shard", "offset", "length", "hash")


class EvalSet(Ref):
    """One dataset to score a checkpoint on; the digest names its image table, `texts` the JSON list of its texts.

    Classification: `texts` are the class prompts in target order and the table's `target` indexes them.
    Retrieval: `texts` are all captions and those with first_text <= index < last_text belong to an image.
    Where leaks are known, the table's `clean` says which images have no duplicate among the training images.
    """

    name: str
    kind: Literal["classification", "retrieval"]
    texts: str  # digest of a JSON list
    samples: int


def compose_eval_set(dataset: DatasetRef, split: str = "test", leaked: Exclusions | None = None) -> EvalSet:
    """The images of `split` in the order of the metadata file, with all class prompts or all their captions.

    `leaked`: evaluation images of any datasets that were trained on (`leaks`); without it none is called clean or not.
    """
    samples = store.read_table(dataset.digest).filter(pc.field("split") == split)
    if not samples.num_rows:
        raise ValueError(f"{dataset.name} has no sample in split {split!r}, only in {sorted(dataset.samples)}")
    origin = {"stage": "compose_eval_set", "dataset": dataset, "split": split} | ({"leaked": leaked} if leaked else {})
    return eval_set(dataset, samples, dataset.name, origin, leaked)


def eval_set(
    dataset: DatasetRef, samples: pa.Table, name: str, origin: dict, leaked: Exclusions | None = None
) -> EvalSet:
    """Some samples of a dataset as the evaluation set `name`; `origin` goes to the manifest."""
    texts, first, last = _prompts(dataset, samples) if dataset.kind == "classification" else _captions(dataset, samples)
    images = samples.select(IMAGE_COLUMNS).replace_schema_metadata(None)
    images = images.append_column("first_text", first).append_column("last_text", last)
    if leaked is not None:
        trained_on = store.read_table(leaked.digest, ["sample"])["sample"]
        images = images.append_column("clean", pc.invert(pc.is_in(images["id"], trained_on.combine_chunks())))
    images = images.combine_chunks()
    return EvalSet(
        digest=store.write_table(images, **origin),
        name=name,
        kind=dataset.kind,
        texts=store.write_bytes(json.dumps(texts).encode(), **origin),
        samples=samples.num_rows,
    )


def _prompts(dataset: DatasetRef, samples: pa.Table) -> tuple[list[str], pa.Array, pa.Array]:
    known = facts(dataset)
    target = samples["target"].combine_chunks()
    return [known.prompt(name) for name in known.classnames], target, pc.add(target, pa.scalar(1, pa.int32()))


def _captions(dataset: DatasetRef, samples: pa.Table) -> tuple[list[str], pa.Array, pa.Array]:
    """An image owns its captions by position; `target` plays no role (reference section 9.1)."""
    captions = samples["default_caption"].combine_chunks()
    if captions.null_count:
        without = samples["id"].filter(captions.is_null())
        raise ValueError(
            f"{captions.null_count} images of the retrieval set {dataset.name} have no default caption "
            f"to be retrieved by, first {without[0]}; complete its metadata"
        )
    ends = pc.cumulative_sum(pc.list_value_length(captions))
    return pc.list_flatten(captions).to_pylist(), pc.subtract(ends, pc.list_value_length(captions)), ends
