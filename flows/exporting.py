"""Which weights a person wants out of the store, and the folder that comes of it."""

from pathlib import Path
from typing import get_args

from data_catalog import promotions, store
from data_catalog.promotions import Promotion
from data_catalog.refs import is_digest
from models import exporting, living
from models.checkpoints import CheckpointRef
from models.model_card import model_card, plain_card
from models.versions import ancestors, brought_by


def exported(what: str, output: Path, layout: str, entry: int | None = None) -> dict:
    """Write the live weights of the stream `what`, those of one of its entries, or a checkpoint by its digest.

    Raises ValueError that says what there is, and MissingArtifact.
    """
    if layout not in get_args(exporting.Layout):
        raise ValueError(f"--layout is {layout!r}, expected one of {', '.join(get_args(exporting.Layout))}")
    if what.startswith("sha256:"):
        if entry is not None:
            raise ValueError("--entry is of a stream, and a digest was given: leave one of them out")
        checkpoint, card = _of_digest(what)
    else:
        checkpoint, card = _of_stream(what, entry)
    files = exporting.export(checkpoint, output, layout, {exporting.CARD: card})
    return {"checkpoint": checkpoint.digest, "layout": layout, "output": str(output), "files": files}


def _of_stream(stream: str, number: int | None) -> tuple[CheckpointRef, str]:
    live, history = living.live_now(stream), promotions.entries(stream)
    entry = brought_by(history, live if number is None else _entry(stream, history, number))
    checkpoint = CheckpointRef(digest=entry.checkpoint, backbone=entry.backbone)
    step = living.behind(stream, entry)
    about = exporting.summary(entry.backbone)
    return checkpoint, model_card(stream, entry, step, ancestors(stream, history, entry), about)


def _entry(stream: str, history: list[Promotion], number: int) -> Promotion:
    known = [entry.number for entry in history if entry.deed != "reject"]
    if number not in known:
        raise ValueError(f"{stream} has no entry {number} that made weights live; there are {known}")
    return history[number]


def _of_digest(digest: str) -> tuple[CheckpointRef, str]:
    if not is_digest(digest):
        raise ValueError(f"{digest!r} is no digest: give sha256: and 64 hex digits, as `evergreen lineage` shows them")
    store.locate(digest)
    origins = store.origins(digest)
    backbones = sorted({origin["backbone"] for origin in origins if "backbone" in origin})
    if not backbones:
        raise ValueError(f"{digest[:19]} holds no weights of a model: give a checkpoint")
    checkpoint = CheckpointRef(digest=digest, backbone=backbones[0])
    return checkpoint, plain_card(digest, exporting.summary(checkpoint.backbone), origins)
