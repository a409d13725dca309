"""From features to the outcomes and scores of one checkpoint on one set, as its images pass by in any order."""

import pyarrow as pa
import torch
from torch import Tensor

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models.checkpoints import CheckpointRef
from models.evaluation import metrics
from models.evaluation.kept_scores import KeptScores, Question
from models.evaluation.outcomes import classification_table, owners_of, retrieval_table, targets_of
from models.evaluation.probe import probe_hits
from models.evaluation.retrieval import retrieval_ranks
from models.evaluation.zero_shot import Head, answers, no_answers


class Answering:
    """A checkpoint that is being asked one question; `texts`: the unit vectors of the set's texts, on the device."""

    def __init__(self, checkpoint: CheckpointRef, question: Question, texts: Tensor):
        self.checkpoint, self.question, self._texts = checkpoint, question, texts
        self.sets = tuple(some for some in (question.eval_set, question.training) if some is not None)
        self._left = sum(eval_set.samples for eval_set in self.sets)
        self._finite = texts.isfinite().all()

    @property
    def is_complete(self) -> bool:
        """Whether every image was seen."""
        return self._left == 0

    def see(self, eval_set: EvalSet, features: Tensor, rows: Tensor) -> None:
        """Take the unit features [n, dim] of the rows int64 [n] of one of its sets."""
        self._left -= len(rows)
        self._finite &= features.isfinite().all()
        if eval_set == self.question.eval_set:
            self._take(features, rows)
        else:
            self._take_training(features, rows)

    def finish(self) -> KeptScores:
        """The scores, with the outcomes in the store; raises ValueError on features that are not finite."""
        eval_set = self.question.eval_set
        if not bool(self._finite):
            raise ValueError(
                f"checkpoint {self.checkpoint.digest[:19]} gives features that are not finite on {eval_set.name}: "
                "its training has diverged; lower the learning rate"
            )
        table = self._table()
        scores = metrics.scores_of(eval_set.name, eval_set.kind, table)
        origin = {"stage": "evaluate", "checkpoint": self.checkpoint, "eval_set": eval_set}
        return KeptScores(tuple(scores), store.write_table(table, **origin))

    def _take(self, features: Tensor, rows: Tensor) -> None:
        raise NotImplementedError

    def _take_training(self, features: Tensor, rows: Tensor) -> None:
        raise NotImplementedError

    def _table(self) -> pa.Table:
        raise NotImplementedError


class Classifying(Answering):
    """Keeps of each image only what became of it; with a probe its features too."""

    def __init__(self, checkpoint: CheckpointRef, question: Question, texts: Tensor, head: Head):
        super().__init__(checkpoint, question, texts)
        self._head, self._targets = head, targets_of(question.eval_set, len(texts)).to(texts.device)
        self._found = no_answers(question.eval_set.samples, texts.device)
        if question.probe:
            self._features = _room(question.eval_set, texts)
            self._training = _room(question.training, texts)
            self._training_targets = targets_of(question.training, len(texts)).to(texts.device)

    def _take(self, features: Tensor, rows: Tensor) -> None:
        for kept, some in zip(
            self._found, answers(features, self._texts, self._targets[rows], self._head), strict=True
        ):
            kept[rows] = some
        if self.question.probe:
            self._features[rows] = features

    def _take_training(self, features: Tensor, rows: Tensor) -> None:
        self._training[rows] = features

    def _table(self) -> pa.Table:
        hits = None
        if self.question.probe:
            training = (self._training, self._training_targets)
            hits = probe_hits(self.question.probe, *training, self._features, self._targets, len(self._texts))
        return classification_table(self.question.eval_set, self._found, len(self._texts), hits)


class Retrieving(Answering):
    """Keeps all features of its images, since each is compared with all texts and each text with all of them."""

    def __init__(self, checkpoint: CheckpointRef, question: Question, texts: Tensor):
        super().__init__(checkpoint, question, texts)
        self._owners = owners_of(question.eval_set, len(texts)).to(texts.device)
        self._features = _room(question.eval_set, texts)

    def _take(self, features: Tensor, rows: Tensor) -> None:
        self._features[rows] = features

    def _table(self) -> pa.Table:
        return retrieval_table(self.question.eval_set, *retrieval_ranks(self._features, self._texts, self._owners))


def asked(checkpoint: CheckpointRef, question: Question, texts: Tensor, head: Head) -> Answering:
    """What takes the features of a question and answers it; `head`: how the checkpoint makes probabilities."""
    if question.eval_set.kind == "classification":
        return Classifying(checkpoint, question, texts, head)
    return Retrieving(checkpoint, question, texts)


def _room(eval_set: EvalSet, texts: Tensor) -> Tensor:
    return torch.empty((eval_set.samples, texts.shape[1]), device=texts.device)
