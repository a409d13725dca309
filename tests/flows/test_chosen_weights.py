"""Weights that are asked for by name: what is not there, is no checkpoint or belongs to another model is said."""

import pytest
import torch

from data_catalog import store
from data_catalog.store import MissingArtifact
from flows.chosen_weights import choose
from flows.evaluate import evaluate
from models.checkpoints import CheckpointRef, save

BACKBONE, OTHER = ("sha256:" + letter * 64 for letter in "ab")
PRETRAINED = CheckpointRef(digest="sha256:" + "0" * 64, backbone=BACKBONE)


def test_weights_of_the_backbone_are_known_by_their_digest(experiment):
    mine = save({"w": torch.ones(2)}, BACKBONE, step=1)
    save({"w": torch.ones(2)}, OTHER)  # the same bytes, made for another model as well
    assert choose(experiment, PRETRAINED, mine.digest) == mine
    assert choose(experiment, PRETRAINED, "pretrained") == PRETRAINED


def test_weights_of_another_backbone_are_refused(experiment):
    with pytest.raises(ValueError, match=r"holds weights of the backbone sha256:bbb.*expected weights of sha256:aaa"):
        choose(experiment, PRETRAINED, save({"w": torch.ones(2)}, OTHER).digest)


def test_what_is_no_checkpoint_is_refused(experiment):
    with pytest.raises(ValueError, match="holds no weights"):
        choose(experiment, PRETRAINED, store.write_bytes(b"\x80\x04}.", stage="pickled"))


@pytest.mark.parametrize("checkpoint, error, message", [
    ("sha256:" + "f" * 64, MissingArtifact, "is not in the store"),
    ("merged/4", ValueError, "no experiment 'tiny-seed0' has been finished"),
])  # fmt: skip
def test_what_is_not_there_is_said_before_anything_is_done(
    prefect_backend, experiment, monkeypatch, checkpoint, error, message
):
    monkeypatch.setattr("flows.evaluate.ingest_experiment", lambda experiment: pytest.fail("work was begun"))
    with pytest.raises(error, match=message):
        evaluate(experiment, checkpoint)
