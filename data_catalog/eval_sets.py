"""Evaluation sets: the images of one split with what they are scored against."""

import json
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import metadata, store
from data_catalog.exclusions import Exclusions, dropped
from data_catalog.refs import Ref
from data_catalog.shards import DatasetRef, facts
from data_catalog.subsets import SubsetRef, positions_of

IMAGE_COLUMNS = ("id", "concept", "target", "shard", "offset", "length", "hash")
LISTED = ("listed",)  # in place of templates: those that the source of a dataset lists


class EvalSet(Ref):
    """One dataset to score a checkpoint on; the digest names its image table, `texts` the JSON list of its texts.

    Classification: `texts` are the class prompts in target order and the table's `target` indexes them. Where a class
    has several prompts, its item is a list of them, and the mean of their normalised embeddings stands for it.
    Retrieval: `texts` are all captions and those with first_text <= index < last_text belong to an image.
    Where leaks are known, the table's `clean` says which images have no duplicate among the training images.
    """

    name: str
    kind: Literal["classification", "retrieval"]
    texts: str  # digest of a JSON list
    samples: int
    classnames: str | None = None  # digest of the JSON list of class names as prompts spell them; None: it has none


def compose_eval_set(dataset: DatasetRef, split: str = "test", leaked: Exclusions | None = None) -> EvalSet:
    """The images of `split` in the order of the metadata file, with all class prompts or all their captions.

    `leaked`: evaluation images of any datasets that were trained on (`leaks`); without it none is called clean or not.
    """
    samples = store.read_table(dataset.digest).filter(pc.field("split") == split)
    if not samples.num_rows:
        raise ValueError(f"{dataset.name} has no sample in split {split!r}, only in {sorted(dataset.samples)}")
    origin = {"stage": "compose_eval_set", "dataset": dataset, "split": split} | ({"leaked": leaked} if leaked else {})
    return eval_set(dataset, samples, dataset.name, origin, leaked)


def compose_chosen_set(
    dataset: DatasetRef,
    split: str,
    leaked: Exclusions | None = None,
    subset: SubsetRef | None = None,
    only_clean: bool = False,
    templates: Sequence[str] = (),
) -> EvalSet:
    """As `compose_eval_set`, of chosen images of the split and with other prompts.

    `subset`: of these images alone; `only_clean`: of those that were not trained on, which `leaked` tells;
    `templates`: sentences with {} for the class name, in place of the dataset's own; LISTED stands for all that its
    source lists. Raises ValueError where nothing is left, and where leaks or the list are not known.
    """
    samples = store.read_table(dataset.digest).filter(pc.field("split") == split)
    if subset is not None:
        if (subset.dataset, subset.split) != (dataset.digest, split):
            raise ValueError(
                f"a subset of split {subset.split!r} of another dataset than {dataset.name}: compose it of {split!r} "
                "of this one"
            )
        samples = samples.take(positions_of(subset))
    if only_clean:
        if leaked is None:
            raise ValueError(f"which images of {dataset.name} are clean is not known: set `stream.duplicates`")
        samples = samples.filter(_is_clean(samples, leaked))
    if not samples.num_rows:
        raise ValueError(f"no {'clean ' * only_clean}image of {dataset.name} is left in split {split!r} to score")
    origin = {"stage": "compose_chosen_set", "dataset": dataset, "split": split, "only_clean": only_clean}
    origin |= {"leaked": leaked} if leaked else {}
    origin |= {"subset": subset} if subset else {}
    name = clean_name(dataset.name) if only_clean else dataset.name
    return eval_set(dataset, samples, name, origin, leaked, templates)


def compose_probe_set(dataset: DatasetRef, name: str, exclusions: Sequence[Exclusions] = ()) -> EvalSet:
    """The training images that a linear probe of the evaluation set `name` is fitted to: those that none drops.

    Raises ValueError if there is none.
    """
    samples = store.read_table(dataset.digest).filter(pc.field("split") == "train")
    samples = samples.filter(pa.array(~dropped(samples["id"], exclusions)))
    if not samples.num_rows:
        raise ValueError(f"{dataset.name} has no training image to fit a linear probe to; leave `evaluation.probe` out")
    return eval_set(dataset, samples, name, {"stage": "compose_probe_set", "dataset": dataset})


def clean_name(dataset: str) -> str:
    """What a dataset is called in reports where its clean images alone are scored."""
    return f"{dataset}/clean"


def eval_set(
    dataset: DatasetRef,
    samples: pa.Table,
    name: str,
    origin: dict,
    leaked: Exclusions | None = None,
    templates: Sequence[str] = (),
) -> EvalSet:
    """Some samples of a dataset as the evaluation set `name`; `origin` goes to the manifest.

    `templates`: see `compose_chosen_set`; retrieval sets have no prompts.
    """
    if dataset.kind == "classification":
        texts, first, last = _prompts(dataset, samples, templates)
    else:
        texts, first, last = _captions(dataset, samples)
    images = samples.select(IMAGE_COLUMNS).replace_schema_metadata(None)
    images = images.append_column("first_text", first).append_column("last_text", last)
    if leaked is not None:
        images = images.append_column("clean", _is_clean(images, leaked))
    images = images.combine_chunks()
    names = _classnames(dataset) if dataset.kind == "classification" else None
    return EvalSet(
        digest=store.write_table(images, **origin),
        name=name,
        kind=dataset.kind,
        texts=store.write_bytes(json.dumps(texts).encode(), **origin),
        samples=samples.num_rows,
        classnames=store.write_bytes(json.dumps(names).encode(), **origin) if names is not None else None,
    )


def _is_clean(images: pa.Table, leaked: Exclusions) -> pa.ChunkedArray:
    trained_on = store.read_table(leaked.digest, ["sample"])["sample"]
    return pc.invert(pc.is_in(images["id"], trained_on.combine_chunks()))


def _prompts(
    dataset: DatasetRef, samples: pa.Table, templates: Sequence[str]
) -> tuple[list[str] | list[list[str]], pa.Array, pa.Array]:
    known = facts(dataset)
    given = (known.templates or (known.prompt_template,)) if tuple(templates) == LISTED else tuple(templates)
    target = samples["target"].combine_chunks()
    if len(given) > 1:
        texts = [[known.prompt(name, template) for template in given] for name in known.classnames]
    else:
        texts = [known.prompt(name, *given) for name in known.classnames]
    return texts, target, pc.add(target, pa.scalar(1, pa.int32()))


def _classnames(dataset: DatasetRef) -> list[str]:
    known = facts(dataset)
    return [metadata.fill("{}", name, known.class_name_transform) for name in known.classnames]


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
