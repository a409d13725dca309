"""What follows from duplicates: training samples to leave out or mark, and evaluation images that were trained on."""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import store
from data_catalog.duplicates import DUPLICATES, DuplicateGroups, Kind
from data_catalog.exclusions import Exclusions, exclude
from data_catalog.refs import Spec
from data_catalog.shards import DatasetRef

TRAIN, EVALUATION = "train", "test"  # the splits that streams train on and that checkpoints are scored on


class DuplicatePolicy(Spec):
    """What a stream does about duplicates among its training samples."""

    action: Literal["keep", "drop", "mark"] = "keep"  # keep: as the benchmark does; mark: trained on, said in the plan
    scope: Literal["evaluation", "training", "both"] = "evaluation"  # twins of samples of which split
    kinds: tuple[Kind, ...] = Field(("exact", "perceptual", "embedding"), min_length=1)  # that count, where searched
    largest_group: int | None = Field(None, ge=2)  # larger ones count only if exact, else they are chains; null: all do


def exclusions(
    groups: Sequence[DuplicateGroups],
    policy: DuplicatePolicy,
    *,
    trained: pa.Array | None = None,
    evaluation_datasets: Collection[str] | None = None,
) -> Exclusions | None:
    """The training samples that `policy` drops or marks, each with its partner as the reason; None if it keeps all.

    Scope `evaluation`: those in a group with an evaluation sample. Scope `training`: all but the first training sample
    (by id) of each group. `trained`: the ids of what would be trained on, all training samples if None; evaluation
    samples of other datasets than those named do not count.
    """
    if policy.action == "keep":
        return None
    table = _joined(groups, policy)
    is_trained = _trained(table, trained)
    reasons: dict[str, str] = {}
    if policy.scope in ("training", "both"):
        reasons |= _partners(table, is_trained, is_trained)
    if policy.scope in ("evaluation", "both"):
        reasons |= _partners(table, is_trained, _belongs(table, EVALUATION, evaluation_datasets))
    cause = {"evaluation": "evaluation images", "training": "earlier training images", "both": "other images"}
    return exclude(reasons, policy.action, f"duplicates of {cause[policy.scope]}", policy=policy, groups=[*groups])


def leaks(groups: Sequence[DuplicateGroups], policy: DuplicatePolicy, *, trained: pa.Array | None = None) -> Exclusions:
    """The evaluation samples that share a group with a training sample: what `compose_eval_set` marks as not clean.

    `trained`: the ids of what is trained on, all training samples if None; `policy` says which groups count, its action
    and scope play no part.
    """
    table = _joined(groups, policy)
    found = _partners(table, _belongs(table, EVALUATION, None), _trained(table, trained))
    return exclude(found, "mark", "evaluation images with a duplicate among the training images", groups=[*groups])


def uncompared(groups: Sequence[DuplicateGroups], datasets: Iterable[DatasetRef]) -> list[str]:
    """The datasets, by name, with an image that no search of `groups` could compare with any other.

    A search did not look at them, or their bytes were never read and their embeddings not compared.
    """
    seen = {name for some in groups if "embedding" in some.groups for name in some.datasets}
    hashed = {name for some in groups if {"exact", "perceptual"} & some.groups.keys() for name in some.datasets}
    return sorted(d.name for d in datasets if d.name not in seen and not (d.name in hashed and _is_hashed(d)))


def _is_hashed(dataset: DatasetRef) -> bool:
    return not store.read_table(dataset.digest, ["hash"])["hash"].null_count


def _joined(groups: Sequence[DuplicateGroups], policy: DuplicatePolicy) -> pa.Table:
    """The rows of all `groups` that count, their numbers made distinct; exact ones first, then by group and sample."""
    parts, before = [], 0
    for some in groups:
        table = store.read_table(some.digest)
        parts.append(table.set_column(3, "group", pc.add(table["group"], before)))
        before += sum(some.groups.values())
    table = pa.concat_tables([DUPLICATES.empty_table(), *parts])
    table = table.filter(pc.is_in(table["kind"], pa.array(policy.kinds)))
    if policy.largest_group is not None:
        group = table["group"].to_numpy()
        fits = np.bincount(group, minlength=1)[group] <= policy.largest_group
        table = table.filter(pc.or_(pc.equal(table["kind"], "exact"), pa.array(fits)))
    rank = pc.index_in(table["kind"], pa.array(["exact", "perceptual", "embedding"]))
    return table.append_column("rank", rank).sort_by(
        [("rank", "ascending"), ("group", "ascending"), ("sample", "ascending")]
    )


def _trained(table: pa.Table, trained: pa.Array | None) -> np.ndarray:
    is_training = _belongs(table, TRAIN, None)
    return is_training if trained is None else is_training & pc.is_in(table["sample"], trained).to_numpy()


def _belongs(table: pa.Table, split: str, datasets: Collection[str] | None) -> np.ndarray:
    chosen = pc.equal(table["split"], split)
    if datasets is not None:
        chosen = pc.and_(chosen, pc.is_in(table["dataset"], pa.array(sorted(datasets), pa.string())))
    return chosen.to_numpy()


def _partners(table: pa.Table, subject: np.ndarray, partner: np.ndarray) -> dict[str, str]:
    """Sample -> reason, for the rows `subject` with a row `partner` in their group; the first such row is named.

    Where the first partner is the row itself, it has none: of training samples among themselves the first one stays.
    """
    group = table["group"].to_numpy()
    first = np.full(group.max(initial=-1) + 1, -1)
    rows = np.flatnonzero(partner)
    np.maximum.at(first, group[rows], len(group) - rows)  # the largest of these is the first row
    first = np.where(first >= 0, len(group) - first, -1)[group]
    chosen = np.flatnonzero(subject & (first >= 0) & (first != np.arange(len(group))))
    names = table["sample"].take(pa.array(chosen)).to_pylist()
    partners = table["sample"].take(pa.array(first[chosen])).to_pylist()
    kinds = table["kind"].take(pa.array(chosen)).to_pylist()
    reasons: dict[str, str] = {}
    for name, kind, other in zip(names, kinds, partners, strict=True):
        reasons.setdefault(name, f"{kind} duplicate of {other}")
    return reasons
