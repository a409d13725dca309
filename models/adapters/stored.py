"""Adapters and the store: taken from what a step kept, folded into a stored checkpoint."""

from pathlib import Path

import torch
from torch import Tensor

from data_catalog import remote_store, store
from models import clip
from models.adapters import travel
from models.adapters.linear import fold
from models.adapters.travel import Adapter
from models.attention import pack_attention, unpack_attention
from models.checkpoints import CheckpointRef, save
from models.weights import StoredWeights

_OF_THE_FILE = ("recorded_at", "backbone")  # what the manifests of an expert and of its step's memory differ in


def stored_adapter(digest: str) -> Adapter:
    """The adapter of a step, by the digest of what it kept or of its expert; raises ValueError, MissingArtifact."""
    groups = _groups(digest)
    if "adapter" not in groups:
        groups = _groups(_kept_with(digest))
    return travel.from_memory(groups)


def stored_checkpoint(digest: str) -> CheckpointRef:
    """The reference to stored weights whose manifest names their backbone; raises ValueError, MissingArtifact."""
    store.locate(digest)
    backbones = {origin["backbone"] for origin in store.origins(digest) if "backbone" in origin}
    if len(backbones) != 1:
        raise ValueError(
            f"the manifests of {digest[:19]} name {len(backbones)} backbones, expected one: give the digest of a "
            "checkpoint, or run the stage again that stored it, if an earlier version did"
        )
    return CheckpointRef(digest=digest, backbone=backbones.pop())


def fold_onto(folder: Path, checkpoint: CheckpointRef) -> CheckpointRef:
    """Store `checkpoint` with the adapter in `folder` folded in; raises ValueError where the two do not fit."""
    adapter = travel.read(folder)
    model = clip.build(checkpoint)
    unpack_attention(model)
    with torch.no_grad():
        travel.put(adapter, model)
    fold(model)
    pack_attention(model)
    digest = store.digest_of_file(folder / travel.WEIGHTS)
    return save(model.state_dict(), checkpoint.backbone, made_by="fold", init=checkpoint.digest, adapter=digest)


def _groups(digest: str) -> dict[str, dict[str, Tensor]]:
    stored = StoredWeights(store.locate(digest))
    groups: dict[str, dict[str, Tensor]] = {}
    for flat in stored:
        group, separated, name = flat.partition("/")
        if separated:
            groups.setdefault(group, {})[name] = stored[flat]
    return groups


def _kept_with(expert: str) -> str:
    """The digest of what the step of an expert kept of its adapter."""
    with remote_store.listed_once():
        made = [_made(origin) for origin in store.origins(expert)]
        for digest in store.stored_digests():
            if digest != expert and any(_made(origin) in made for origin in store.origins(digest)):
                with store.locate(digest).open("rb") as file:
                    is_memory = b'"adapter/' in file.read(1 << 20)
                if is_memory:
                    return digest
    raise ValueError(
        f"no adapter is stored with {expert[:19]}: give an expert, straight after an update, whose method was "
        "`lora`, `dora`, `vera`, `codyra` or `layer_selective_lora`"
    )


def _made(origin: dict) -> dict:
    return {name: value for name, value in origin.items() if name not in _OF_THE_FILE}
