"""What a run leaves of each image, made by hand: evaluation sets with real pictures, and outcomes before and after."""

import io
import json

import numpy as np
import pyarrow as pa
from PIL import Image

from data_catalog import places, store
from data_catalog.eval_sets import EvalSet
from models.evaluation.metrics import CLASSES, scores_of
from models.evaluation.record import ExperimentRecord, InsidePoint, StepRecord
from models.evaluation.scores import EvalReport, summarise

NAMES = ("zero", "one", "two", "three")


def classified(name: str, folder, images: int = 40) -> EvalSet:
    """A classification set of so many pictures, whose classes go round."""
    table = _pictures(name, folder, images) | {"target": pa.array([i % len(NAMES) for i in range(images)], pa.int32())}
    texts = [f"a photo of {word}." for word in NAMES]
    return EvalSet(
        digest=store.write_table(pa.table(table)), name=name, kind="classification", samples=images,
        texts=store.write_bytes(json.dumps(texts).encode()), classnames=store.write_bytes(json.dumps(NAMES).encode()),
    )  # fmt: skip


def retrieved(name: str, folder, images: int = 40) -> EvalSet:
    """A retrieval set in which every picture has two captions."""
    table = _pictures(name, folder, images)
    table |= {"first_text": list(range(0, 2 * images, 2)), "last_text": list(range(2, 2 * images + 2, 2))}
    texts = [f"caption {i % 2} of <picture> {i // 2}" for i in range(2 * images)]
    return EvalSet(
        digest=store.write_table(pa.table(table)), name=name, kind="retrieval", samples=images,
        texts=store.write_bytes(json.dumps(texts).encode()),
    )  # fmt: skip


def outcomes(eval_set: EvalSet, share: float, seed: int = 0) -> pa.Table:
    """Outcomes in which about `share` of the images are hits; with one seed more hits contain fewer hits."""
    hit = np.random.default_rng(seed).random(eval_set.samples) < share
    if eval_set.kind == "retrieval":
        return pa.table({
            "image_rank": pa.array(np.where(hit, 0, 9), pa.int32()),
            "text_ranks": pa.array([[0, 3] if found else [12, 30] for found in hit], pa.list_(pa.int32())),
        })  # fmt: skip
    target = np.arange(eval_set.samples) % len(NAMES)
    first = np.where(hit, target, (target + 1) % len(NAMES))
    top = [[a, *(c for c in range(len(NAMES)) if c != a), -1] for a in first]
    return pa.table({
        "target": pa.array(target, pa.int32()), "rank": pa.array(np.where(hit, 0, 1 + target), pa.int32()),
        "top": pa.array(top, pa.list_(pa.int32(), 5)),
        "confidence": pa.array(0.5 + 0.4 * np.random.default_rng(seed).random(len(hit)), pa.float32()),
    }).replace_schema_metadata({CLASSES: str(len(NAMES))})  # fmt: skip


def scored(checkpoint: str, eval_sets: tuple[EvalSet, ...], shares: dict[str, float]) -> EvalReport:
    """The report of a checkpoint with this share of hits on each set."""
    tables = {s.name: outcomes(s, shares[s.name]) for s in eval_sets}
    scores = [score for s in eval_sets for score in scores_of(s.name, s.kind, tables[s.name], bootstrap=False)]
    kept = {name: store.write_table(table) for name, table in tables.items()}
    return EvalReport(checkpoint=checkpoint, scores=scores, outcomes=kept)


def with_outcomes(record: ExperimentRecord, folder) -> ExperimentRecord:
    """The record with its ends scored image by image, shares of hits as its scores were, and once inside step 0."""
    sets = tuple(
        (retrieved if name in ("retrieval_new", "captions_held_out") else classified)(name, folder)
        for name in (*record.adaptation, *record.retention)
    )
    shares = [{score.dataset: score.value for score in report.scores} for report in [record.zero_shot]]
    zero_shot = scored(record.pretrained, sets, shares[0])
    recipes = [
        recipe.model_copy(update={"steps": tuple(_scored_step(record, step, sets) for step in recipe.steps)})
        for recipe in record.recipes
    ]
    return record.model_copy(
        update={
            "eval_sets": sets, "zero_shot": zero_shot, "recipes": tuple(recipes), "zero_shot_full": zero_shot,
            "zero_shot_summary": summarise(-1, zero_shot, record.adaptation, record.retention),
            "groups": {"drawn": ("shapes", "sketches"), "seen": ("photos", "broad")},
            "stages": tuple(s.model_copy(update={"ended": 100.0 + 10 * i}) for i, s in enumerate(record.stages)),
        }
    )  # fmt: skip


def _scored_step(record: ExperimentRecord, step: StepRecord, sets: tuple[EvalSet, ...]) -> StepRecord:
    if 0 < step.step < len(record.stream) - 1:
        return step
    values = {score.dataset: score.value for score in step.scores.scores}
    report = scored(step.deployed, sets, values)
    summary = summarise(step.step, report, record.adaptation, record.retention)
    known = {"scores": report, "full": report, "summary": summary}
    if not step.step:
        dip = scored(step.expert, sets, {name: 0.6 * value for name, value in values.items()})
        known["inside"] = (InsidePoint(iteration=40, samples=4000, scores=dip),)
    return step.model_copy(update=known)


def _pictures(name: str, folder, images: int) -> dict[str, pa.Array]:
    folder.mkdir(exist_ok=True)
    places.register_source("made", folder)
    data = [_picture(i) for i in range(4)]  # which go round
    for i, encoded in enumerate(data):
        (folder / f"{name}-{i}.png").write_bytes(encoded)
    return {
        "id": pa.array([f"{name}/test/{i}" for i in range(images)]),
        "concept": pa.array([NAMES[i % len(NAMES)] for i in range(images)]),
        "shard": pa.array([f"made/{name}-{i % 4}.png" for i in range(images)]),
        "offset": pa.array([0] * images), "length": pa.array([len(data[i % 4]) for i in range(images)]),
        "hash": pa.nulls(images, pa.binary(32)),
    }  # fmt: skip


def _picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), ((37 * number) % 256, (91 * number) % 256, 120)).save(buffer, "PNG")
    return buffer.getvalue()
