"""Scores kept per (checkpoint, evaluation set), so that a new evaluation set costs only itself."""

from typing import NamedTuple

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models import decoding
from models.checkpoints import CheckpointRef
from models.evaluation import kept
from models.evaluation.probe import Probe
from models.evaluation.scores import Score

FOLDER = "scores"
REVISION = 3  # raise when the scores of the same weights on the same images would change


class KeptScores(NamedTuple):
    """What one checkpoint scored on one set."""

    scores: tuple[Score, ...]
    outcomes: str  # digest of the table


class Question(NamedTuple):
    """What is asked of a checkpoint: a set, and with a probe also the images that it is fitted to."""

    eval_set: EvalSet
    probe: Probe | None = None
    training: EvalSet | None = None

    def key(self, checkpoint: CheckpointRef) -> dict[str, object]:
        """All that the answer follows from."""
        return {
            "checkpoint": checkpoint.digest,
            "backbone": checkpoint.backbone,
            "dataset": self.eval_set.name,
            "kind": self.eval_set.kind,
            "images": self.eval_set.digest,
            "texts": self.eval_set.texts,
            "probe": self.probe and self.probe.model_dump(mode="json"),
            "training": self.training and self.training.digest,
            "revision": REVISION,
            "decoding": decoding.REVISION,
        }


def keep(checkpoint: CheckpointRef, question: Question, answer: KeptScores) -> None:
    """Remember what `checkpoint` scored."""
    scores = [score.model_dump(mode="json") for score in answer.scores]
    kept.keep(FOLDER, question.key(checkpoint), {"scores": scores, "outcomes": answer.outcomes})


def find(checkpoint: CheckpointRef, question: Question) -> KeptScores | None:
    """What `checkpoint` scored earlier; None if the record is damaged or the table of outcomes is not intact."""
    found = kept.find(FOLDER, question.key(checkpoint), f"scores of {question.eval_set.name}")
    if found is None or not store.is_intact(found["outcomes"]):
        return None
    return KeptScores(tuple(Score.model_validate(score) for score in found["scores"]), found["outcomes"])
