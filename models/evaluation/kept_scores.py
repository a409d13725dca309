"""Scores kept per (checkpoint, evaluation set), so that a new evaluation set costs only itself."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from data_catalog.eval_sets import EvalSet
from data_catalog.places import store_root
from data_catalog.store import digest_of
from data_catalog.store_files import write_atomically
from models import decoding
from models.checkpoints import CheckpointRef
from models.evaluation.scores import Score

REVISION = 1  # raise when the scores of the same weights on the same images would change


def keep(checkpoint: CheckpointRef, eval_set: EvalSet, scores: Sequence[Score]) -> None:
    """Remember what `checkpoint` scored on `eval_set`."""
    content = _key(checkpoint, eval_set) | {"scores": [score.model_dump(mode="json") for score in scores]}
    sealed = content | {"seal": _seal(content)}
    write_atomically(_path(checkpoint, eval_set), json.dumps(sealed, sort_keys=True, indent=1).encode())


def find(checkpoint: CheckpointRef, eval_set: EvalSet) -> tuple[Score, ...] | None:
    """What `checkpoint` scored on `eval_set` earlier; None, with a line in the log, if the record is damaged."""
    path = _path(checkpoint, eval_set)
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        seal = content.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError):
        content = seal = None
    if content is None or seal != _seal(content):
        logging.getLogger(__name__).warning("kept scores of %s at %s are damaged: scoring again", eval_set.name, path)
        return None
    return tuple(Score.model_validate(score) for score in content["scores"])


def _key(checkpoint: CheckpointRef, eval_set: EvalSet) -> dict[str, object]:
    return {
        "checkpoint": checkpoint.digest,
        "backbone": checkpoint.backbone,
        "dataset": eval_set.name,
        "kind": eval_set.kind,
        "images": eval_set.digest,
        "texts": eval_set.texts,
        "revision": REVISION,
        "decoding": decoding.REVISION,
    }


def _path(checkpoint: CheckpointRef, eval_set: EvalSet) -> Path:
    name = _seal(_key(checkpoint, eval_set))[7:]
    return store_root() / "scores" / name[:2] / f"{name}.json"


def _seal(content: dict[str, object]) -> str:
    return digest_of(json.dumps(content, sort_keys=True).encode())
