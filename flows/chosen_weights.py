"""Which stored weights a person means: by digest, or by the recipe and step of an experiment that made them."""

from data_catalog import store
from data_catalog.refs import is_digest
from flows.experiment import ExperimentConfig
from flows.living_config import LivingConfig
from models.checkpoints import CheckpointRef
from models.evaluation.record import find_record, run_name
from models.living import live_now


def choose(experiment: ExperimentConfig, pretrained: CheckpointRef, checkpoint: str) -> CheckpointRef:
    """The weights that `checkpoint` stands for; raises ValueError that says what can be asked for.

    It also does for weights of another backbone than the experiment's.
    """
    digest = digest_asked_for(experiment, checkpoint)
    if digest is None:
        return pretrained
    backbones = {origin["backbone"] for origin in store.origins(digest) if "backbone" in origin}
    if pretrained.backbone not in backbones:
        found = f"weights of the backbone {', '.join(sorted(b[:19] for b in backbones))}" if backbones else "no weights"
        raise ValueError(
            f"checkpoint {checkpoint!r} holds {found}, expected weights of {pretrained.backbone[:19]}, the backbone of "
            f"{experiment.name}: give a checkpoint that began with the same `start`"
        )
    return CheckpointRef(digest=digest, backbone=pretrained.backbone)


def digest_asked_for(experiment: ExperimentConfig, checkpoint: str) -> str | None:
    """The digest of the stored bytes that `checkpoint` stands for, None for the weights the experiment starts from.

    Raises ValueError that says what can be asked for, and MissingArtifact for what is not in the store.
    """
    if checkpoint == "pretrained":
        return None
    if checkpoint == "live" and isinstance(experiment, LivingConfig):
        return live_now(experiment.name).checkpoint
    digest = checkpoint if is_digest(checkpoint) else _deployed(experiment, checkpoint)
    store.locate(digest)
    return digest


def _deployed(experiment: ExperimentConfig, checkpoint: str) -> str:
    record = find_record(run_name(experiment.name, experiment.seed))
    deployed = {f"{r.name}/{s.step}": s.deployed for r in record.recipes for s in r.trained}
    if checkpoint not in deployed:
        raise ValueError(
            f"no checkpoint {checkpoint!r} in {run_name(experiment.name, experiment.seed)}: give `pretrained`, "
            f"sha256:<64 hex digits>, or one of {', '.join(deployed)}"
        )
    return deployed[checkpoint]
