"""Scores of concepts that a model gives in an earlier stage, so that the catalog itself never calls one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from data_catalog import store
from data_catalog.refs import Ref, Spec

if TYPE_CHECKING:
    from data_catalog.orderings.base import Concept  # orderings import this module

DIRECTIONS = pa.list_(pa.float32())


class ScoredBy(Spec):
    """The checkpoint whose scores order the concepts: any OpenCLIP model."""

    model: str  # a name OpenCLIP knows, or a folder with open_clip_config.json
    weights: str | None = None  # for a name: a tag of OpenCLIP or the path of a weights file


class NameEmbeddings(Spec):
    """The text embedding of every concept's templated name: what `similarity` walks through."""

    kind: Literal["name_embeddings"] = "name_embeddings"


class PairLosses(Spec):
    """The contrastive loss of `pairs` of a concept's image-text pairs beside as many of a reference pool."""

    kind: Literal["pair_losses"] = "pair_losses"
    pairs: int = Field(50, ge=1)


AnyScore = Annotated[NameEmbeddings | PairLosses, Field(discriminator="kind")]


class ScoreNeed(Spec):
    """What an ordering must be given: which score, by which checkpoint, against which datasets."""

    score: AnyScore
    checkpoint: ScoredBy | Literal["pretrained"]  # `pretrained`: the weights the experiment starts from
    reference: tuple[str, ...] = ()  # datasets of the reference pool; empty: the experiment's pretraining datasets


class ConceptScores(Ref):
    """One row per concept: dataset, concept, and its value, a loss or a normalised float32 embedding."""

    kind: Literal["name_embeddings", "pair_losses"]
    concepts: int


def store_scores(kind: str, concepts: Sequence["Concept"], values: np.ndarray, **origin) -> ConceptScores:
    """Store one value per concept: [concepts] numbers or [concepts, dim] embeddings."""
    table = pa.table(
        {
            "dataset": pa.array([concept.dataset for concept in concepts], pa.string()),
            "concept": pa.array([concept.name for concept in concepts], pa.string()),
            "value": pa.array(list(values.astype(np.float32)), DIRECTIONS) if values.ndim == 2 else pa.array(values),
        }
    )
    return ConceptScores(digest=store.write_table(table, **origin), kind=kind, concepts=len(concepts))


def values_of(scores: ConceptScores | None, kind: str, concepts: Sequence["Concept"], ordering: str) -> np.ndarray:
    """The values of `concepts` in their order; raises ValueError if there are none, of another kind, or too few."""
    if scores is None or scores.kind != kind:
        raise ValueError(
            f"ordering {ordering} needs {kind} of the concepts but was given {scores.kind if scores else 'no scores'}: "
            "run score_concepts with what its needs() says and pass the result as `concept_scores`"
        )
    table = store.read_table(scores.digest)
    place = {
        key: i for i, key in enumerate(zip(table["dataset"].to_pylist(), table["concept"].to_pylist(), strict=True))
    }
    if missing := [concept for concept in concepts if tuple(concept) not in place]:
        raise ValueError(
            f"{len(missing)} concepts have no {kind}, first {'+++'.join(missing[0])!r}: the scores were made for other "
            "datasets; run score_concepts again with those of this stream"
        )
    column = table["value"].combine_chunks()
    flat = column.values.to_numpy().reshape(len(column), -1) if column.type == DIRECTIONS else column.to_numpy()
    return flat[[place[tuple(concept)] for concept in concepts]]
