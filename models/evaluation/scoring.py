"""Scores a checkpoint on any number of evaluation sets in one pass over their images (performance.md section 7)."""

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models import embeddings
from models.checkpoints import CheckpointRef
from models.evaluation import kept_scores
from models.evaluation.ranking import hits_at
from models.evaluation.retrieval import recall_at_k, restricted
from models.evaluation.scores import EvalReport, Score, clean_metric
from models.evaluation.zero_shot import class_ranks

TOP_5_CLASSES = 10  # with fewer classes the top-5 accuracy says little


def evaluate(checkpoint: CheckpointRef, eval_sets: Sequence[EvalSet], batch_size: int = 256) -> EvalReport:
    """The scores of `checkpoint` on `eval_sets`, in their order; what was scored before is looked up.

    Raises ValueError on an evaluation set that is empty or named twice, and on features that are not finite.
    """
    _refuse_unusable(eval_sets)
    found = {eval_set.name: kept_scores.find(checkpoint, eval_set) for eval_set in eval_sets}
    pending = [eval_set for eval_set in eval_sets if found[eval_set.name] is None]
    for eval_set, scores in _score_all(checkpoint, pending, batch_size) if pending else ():
        kept_scores.keep(checkpoint, eval_set, scores)
        found[eval_set.name] = scores
    return EvalReport(
        checkpoint=checkpoint.digest, scores=tuple(score for scores in found.values() for score in scores)
    )


def _refuse_unusable(eval_sets: Sequence[EvalSet]) -> None:
    names = [eval_set.name for eval_set in eval_sets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"evaluation sets named twice: {', '.join(twice)}; a report holds one score per dataset and metric"
        )
    if empty := [eval_set.name for eval_set in eval_sets if eval_set.samples == 0]:
        raise ValueError(
            f"evaluation sets without images: {', '.join(empty)}; leave them out or ingest their test split"
        )


@torch.inference_mode()
def _score_all(
    checkpoint: CheckpointRef, eval_sets: Sequence[EvalSet], batch_size: int
) -> Iterator[tuple[EvalSet, tuple[Score, ...]]]:
    model = embeddings.on_device(checkpoint)
    device = embeddings.device_of(model)
    texts = {eval_set.name: json.loads(store.read_bytes(eval_set.texts)) for eval_set in eval_sets}
    distinct = list(dict.fromkeys(text for some in texts.values() for text in some))
    row_of = {text: row for row, text in enumerate(distinct)}
    vectors = embeddings.embed_texts(model, checkpoint.backbone, distinct, batch_size)
    batches = embeddings.embed_batches(model, checkpoint.backbone, _jobs(eval_sets, batch_size))
    for eval_set, group in groupby(batches, key=itemgetter(0)):
        own = vectors[torch.tensor([row_of[text] for text in texts[eval_set.name]])].to(device)
        features = (images for _, images in group)
        score = _classification if eval_set.kind == "classification" else _retrieval
        yield eval_set, score(eval_set, features, own, checkpoint)


def _classification(
    eval_set: EvalSet, features: Iterable[Tensor], classes: Tensor, checkpoint: CheckpointRef
) -> tuple[Score, ...]:
    targets = _targets(eval_set, len(classes)).to(classes.device)
    names = {"accuracy_top1": 1} | ({"accuracy_top5": 5} if len(classes) >= TOP_5_CLASSES else {})
    ranks, finite = [], classes.isfinite().all()
    for images in features:
        answers, targets = targets[: len(images)], targets[len(images) :]
        ranks.append(class_ranks(images, classes, answers))
        finite &= images.isfinite().all()
    _refuse_not_finite(finite, eval_set, checkpoint)

    def accuracies(rows: Tensor) -> list[float]:
        return [count / len(rows) for count in hits_at(rows, tuple(names.values())).tolist()]

    ranks = torch.cat(ranks)
    scores = _scores(eval_set, names, accuracies(ranks), len(ranks))
    if (clean := _clean(eval_set)) is None:
        return scores
    return scores + _scores(eval_set, map(clean_metric, names), accuracies(ranks[clean.to(ranks.device)]), len(clean))


def _retrieval(
    eval_set: EvalSet, features: Iterable[Tensor], texts: Tensor, checkpoint: CheckpointRef
) -> tuple[Score, ...]:
    images = torch.cat(list(features))
    _refuse_not_finite(images.isfinite().all() & texts.isfinite().all(), eval_set, checkpoint)
    names = {"recall_at_1": 1, "recall_at_5": 5}
    owners = _owners(eval_set, len(texts)).to(texts.device)
    scores = _scores(eval_set, names, recall_at_k(images, texts, owners, tuple(names.values())), len(images))
    if (clean := _clean(eval_set)) is None:
        return scores
    kept = restricted(images, texts, owners, clean.to(images.device))
    return scores + _scores(eval_set, map(clean_metric, names), recall_at_k(*kept, tuple(names.values())), len(clean))


def _clean(eval_set: EvalSet) -> Tensor | None:
    """Positions of the clean images; None where leaks are unknown and, with a line in the log, where none is clean."""
    if "clean" not in pq.read_schema(store.locate(eval_set.digest)).names:
        return None
    column = store.read_table(eval_set.digest, ["clean"])["clean"]
    clean = torch.from_numpy(column.to_numpy().copy()).nonzero().flatten()
    if len(clean):
        return clean
    logging.getLogger(__name__).warning("every image of %s was trained on: it has no clean scores", eval_set.name)
    return None


def _scores(eval_set: EvalSet, metrics: Iterable[str], values: Iterable[float], samples: int) -> tuple[Score, ...]:
    pairs = zip(metrics, values, strict=True)
    return tuple(Score(dataset=eval_set.name, metric=name, value=value, samples=samples) for name, value in pairs)


def _targets(eval_set: EvalSet, classes: int) -> Tensor:
    column = store.read_table(eval_set.digest, ["target"])["target"]
    targets = torch.from_numpy(column.to_numpy().copy()).long()
    if column.null_count or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise ValueError(
            f"{eval_set.name} has targets outside its {classes} classes, or images without one; "
            "the class names of the dataset do not fit its samples"
        )
    return targets


def _owners(eval_set: EvalSet, texts: int) -> Tensor:
    """The image of each text; never its class target, which reference 9.1 describes as a defect."""
    table = store.read_table(eval_set.digest, ["first_text", "last_text"])
    first, last = (torch.from_numpy(table[name].to_numpy().copy()).long() for name in table.column_names)
    owners = torch.repeat_interleave(last - first)
    if len(owners) != texts:
        raise ValueError(f"the images of {eval_set.name} own {len(owners)} texts, but it has {texts}; compose it again")
    return owners


def _refuse_not_finite(finite: Tensor, eval_set: EvalSet, checkpoint: CheckpointRef) -> None:
    if not bool(finite):
        raise ValueError(
            f"checkpoint {checkpoint.digest[:19]} gives features that are not finite on {eval_set.name}: "
            "its training has diverged; lower the learning rate"
        )


def _jobs(eval_sets: Sequence[EvalSet], batch_size: int) -> Iterator[tuple[EvalSet, pa.Table]]:
    """All images, set by set; no batch spans two, so a score depends on its set alone."""
    for eval_set in eval_sets:
        rows = store.read_table(eval_set.digest, embeddings.IMAGE_COLUMNS)
        yield from ((eval_set, batch) for batch in embeddings.batches_of(rows, batch_size))
