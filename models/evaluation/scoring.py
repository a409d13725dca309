"""Scores any number of checkpoints on any number of evaluation sets in one pass over their images.

Each distinct image is decoded once and embedded once per image tower; nothing larger than a block of rows times the
classes exists, on the device alone (performance.md section 7). No score depends on how the work was cut.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models import clip, embeddings
from models.checkpoints import CheckpointRef, load
from models.evaluation import kept_scores
from models.evaluation.answering import Answering, asked
from models.evaluation.kept_scores import KeptScores, Question
from models.evaluation.occurrences import Occurrences
from models.evaluation.probe import Probe
from models.evaluation.scores import EvalReport
from models.evaluation.text_cache import text_vectors
from models.evaluation.zero_shot import Head

_LARGEST = math.log(torch.finfo(torch.float32).max)  # logit scale whose exponential single precision holds
Progress = Callable[[int, int], None]  # images of a pass that are done, in all
MOST_WEIGHTS = 16 << 30  # bytes of image towers that share a pass, where the device has twice as many


class Job(NamedTuple):
    """A checkpoint and what it is still to be asked."""

    checkpoint: CheckpointRef
    questions: tuple[Question, ...]


def evaluate(checkpoint: CheckpointRef, eval_sets: Sequence[EvalSet], batch_size: int = 256) -> EvalReport:
    """The scores of `checkpoint` on `eval_sets`, in their order; as `evaluate_many`."""
    return evaluate_many([checkpoint], eval_sets, batch_size=batch_size)[0]


def evaluate_many(
    checkpoints: Sequence[CheckpointRef],
    eval_sets: Sequence[EvalSet],
    probe: Probe | None = None,
    training: Sequence[EvalSet] = (),
    batch_size: int = 256,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[EvalReport]:
    """One report per checkpoint, its scores in the order of `eval_sets`; what was scored before is looked up.

    `probe`: fit a linear probe too, to the images of the set in `training` that has the name of the evaluation set;
    sets without one get none. `batch_size`: images decoded together, `workers`: threads that decode; neither changes a
    digit. Raises ValueError on an evaluation set that is empty or named twice, on a probe with too few images, and on
    weights that have diverged.
    """
    questions = _questions(eval_sets, probe, training)
    found = _found(checkpoints, questions, batch_size, workers, progress)
    return [_report(some, questions, found) for some in checkpoints]


def evaluate_lists(
    checkpoint: CheckpointRef,
    lists: Sequence[Sequence[EvalSet]],
    probe: Probe | None = None,
    training: Sequence[EvalSet] = (),
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[EvalReport]:
    """One report of a checkpoint per list of sets, all of one pass; as `evaluate_many`.

    Two lists may hold other images under one name, e.g. a subset and the whole set, whose images are embedded once.
    """
    questions = [_questions(eval_sets, probe, training) for eval_sets in lists]
    found = _found([checkpoint], list(chain.from_iterable(questions)), batch_size, progress=progress)
    return [_report(checkpoint, some, found) for some in questions]


def _found(
    checkpoints: Sequence[CheckpointRef],
    questions: Sequence[Question],
    batch_size: int,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[tuple[CheckpointRef, Question], KeptScores]:
    """The answer of each checkpoint to each question, kept from before or kept from now on."""
    pairs = itertools.product(dict.fromkeys(checkpoints), dict.fromkeys(questions))
    found = {(some, question): kept_scores.find(some, question) for some, question in pairs}
    jobs: dict[CheckpointRef, list[Question]] = {}
    for (some, question), answer in found.items():
        if answer is None:
            jobs.setdefault(some, []).append(question)
    for part in _passes([Job(some, tuple(open_ones)) for some, open_ones in jobs.items()]):
        for checkpoint, question, answer in _answers(part, batch_size, workers, progress):
            kept_scores.keep(checkpoint, question, answer)
            found[checkpoint, question] = answer
    return found


def _questions(eval_sets: Sequence[EvalSet], probe: Probe | None, training: Sequence[EvalSet]) -> list[Question]:
    _refuse_unusable(eval_sets)
    return [_question(eval_set, probe, training) for eval_set in eval_sets]


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


def _question(eval_set: EvalSet, probe: Probe | None, training: Sequence[EvalSet]) -> Question:
    own = next((some for some in training if some.name == eval_set.name), None)
    if probe is None or own is None or eval_set.kind != "classification":
        return Question(eval_set)
    if own.digest == eval_set.digest:
        raise ValueError(f"the linear probe of {eval_set.name} would be fitted to the images it is scored on")
    if own.samples < 2:
        raise ValueError(
            f"{eval_set.name} has {own.samples} training image for its linear probe, expected at least 2: leave "
            "`evaluation.probe` or the dataset out"
        )
    return Question(eval_set, probe, own)


def _report(
    checkpoint: CheckpointRef,
    questions: Sequence[Question],
    found: dict[tuple[CheckpointRef, Question], KeptScores],
) -> EvalReport:
    answers = {question.eval_set.name: found[checkpoint, question] for question in questions}
    return EvalReport(
        checkpoint=checkpoint.digest,
        scores=tuple(chain.from_iterable(answer.scores for answer in answers.values())),
        outcomes={name: answer.outcomes for name, answer in answers.items()},
    )


def _passes(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs that can share a pass: of one preprocessing, and of no more weights than fit."""
    kinds: dict[clip.Preprocessing, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(clip.preprocessing(job.checkpoint.backbone), []).append(job)
    most = _most_weights()
    for same in kinds.values():
        part, weights = [], {}
        for job in same:
            own = {embeddings.tower_digest(job.checkpoint, "image"): store.locate(job.checkpoint.digest).stat().st_size}
            if part and sum((weights | own).values()) > most:
                yield part
                part, weights = [], {}
            part, weights = [*part, job], weights | own
        yield part


def _most_weights() -> int:
    """Bytes of image towers that share a pass; of more checkpoints, images are decoded again."""
    if torch.cuda.is_available():
        room, _ = torch.cuda.mem_get_info()
    else:
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(MOST_WEIGHTS, room // 2)


@torch.inference_mode()
def _answers(
    jobs: Sequence[Job], batch_size: int, workers: int | None, progress: Progress | None
) -> Iterator[tuple[CheckpointRef, Question, KeptScores]]:
    """The answers of one pass, each as soon as its last image is embedded."""
    sets = list(dict.fromkeys(some for job in jobs for q in job.questions for some in (q.eval_set, q.training) if some))
    seen = Occurrences([store.read_table(some.digest, embeddings.IMAGE_COLUMNS) for some in sets])
    towers, backbone, start = _towers(jobs), jobs[0].checkpoint.backbone, 0
    batches = ((None, rows) for rows in embeddings.batches_of(seen.images, batch_size))
    for _, images in embeddings.decoded_batches(clip.preprocessing(backbone), batches, workers):
        for pixels, count in embeddings.pixel_blocks(images, backbone, towers[0].device):
            places = [(sets[some.table], some.image, some.row) for some in seen.within(start, start + count)]
            start += count
            for tower in towers:
                for answering in tower.see(pixels, places):
                    yield answering.checkpoint, answering.question, answering.finish()
            if progress:
                progress(start, seen.images.num_rows)


class Tower:
    """An image tower on its device, and all that wait for its features."""

    def __init__(self, model: nn.Module):
        self._model, self.device = embeddings.without_texts(model), embeddings.device_of(model)
        self._threads = torch.get_num_threads()  # fitted to the model when it was built; their number decides bits
        self._waiting: dict[EvalSet, list[Answering]] = {}

    def expect(self, answering: Answering) -> None:
        """Let `answering` see the images of its sets from now on."""
        for eval_set in answering.sets:
            self._waiting.setdefault(eval_set, []).append(answering)

    def see(self, pixels: Tensor, places: Sequence[tuple[EvalSet, np.ndarray, np.ndarray]]) -> list[Answering]:
        """Embed a block of images that stand at `places`: set, position in the block, row; whose last one it was."""
        torch.set_num_threads(self._threads)  # another tower of the pass may want others
        features, complete = embeddings.embed_pixels(self._model, pixels), []
        for eval_set, image, row in places:
            chosen, rows = (torch.from_numpy(some).to(self.device) for some in (image, row))
            for answering in self._waiting.get(eval_set, ()):
                answering.see(eval_set, features[chosen], rows)
                if answering.is_complete:
                    complete.append(answering)
        for answering in complete:
            for eval_set in answering.sets:
                self._waiting[eval_set].remove(answering)
        return complete


def _towers(jobs: Sequence[Job]) -> list[Tower]:
    """The distinct image towers of `jobs`, each with the answers that wait for it."""
    towers: dict[str, Tower] = {}
    for checkpoint, questions in jobs:
        build = cache(partial(embeddings.on_device, checkpoint))
        vectors = text_vectors(checkpoint, [question.eval_set for question in questions], build)
        head, digest = _head(checkpoint), embeddings.tower_digest(checkpoint, "image")
        if digest not in towers:
            towers[digest] = Tower(build())
        for question in questions:
            texts = vectors[question.eval_set.name].to(towers[digest].device)
            towers[digest].expect(asked(checkpoint, question, texts, head))
    return list(towers.values())


def _head(checkpoint: CheckpointRef) -> Head:
    weights = load(checkpoint)
    scale, bias = (float(weights[name]) if name in set(weights) else None for name in ("logit_scale", "logit_bias"))
    if not (-math.inf < scale < _LARGEST and math.isfinite(bias or 0)):
        found = f"the logit scale {scale:g}" + ("" if bias is None else f" and the bias {bias:g}")
        raise ValueError(
            f"checkpoint {checkpoint.digest[:19]} has {found}, expected finite ones, the scale below {_LARGEST:.1f}: "
            "its training has diverged; lower the learning rate"
        )
    return Head(scale=math.exp(scale), bias=bias)
