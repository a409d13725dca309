"""What is live, any entry and any checkpoint go out as folders; the registry and a check have commands."""

import json

import open_clip
import pytest
import torch
import yaml

from data_catalog import store
from models import clip
from tests.flows.living_streams import raw_living
from tests.models.conftest import tiny_folder  # noqa: F401 a fixture
from tests.models.lives import STREAM, enter, finish_step


@pytest.fixture
def weights(own_home, tiny_folder, tmp_path):  # noqa: F811
    """A stream that began with the first, was promoted to the second, and went back."""
    made = [clip.initialise(str(tiny_folder), seed) for seed in range(3)]
    enter("start", made[0])
    finish_step(made[1], made[2], yaml.safe_dump(raw_living(tmp_path, name=STREAM)).encode())
    enter("promote", made[1], step=0)
    enter("rollback", made[0], returns_to=0)
    return made


def exported(evergreen, tmp_path, *arguments) -> dict:
    code, out, err = evergreen("export", *arguments, "--output", tmp_path / "out", "--json")
    assert code == 0, err
    return json.loads(out)


def test_what_is_live_is_exported_with_its_card(weights, evergreen, tmp_path):
    assert exported(evergreen, tmp_path, STREAM)["checkpoint"] == weights[0].digest
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    assert torch.equal(model.state_dict()["visual.proj"], clip.build(weights[0]).state_dict()["visual.proj"])
    assert "the weights the stream began with" in (tmp_path / "out/README.md").read_text()


def test_an_earlier_entry_is_exported_with_scores_lineage_mixture_and_budget(weights, evergreen, tmp_path):
    assert exported(evergreen, tmp_path, STREAM, "--entry", 1)["checkpoint"] == weights[1].digest
    card = (tmp_path / "out/README.md").read_text()
    for told in ("| PETS | adaptation | accuracy_top1 | 20 | 0.5 |", "| update | 6 | 0.75 |", "| MAFs used | 7.25 |",
                 weights[2].digest, "Trained on from: the beginning", "| tokenizer | OpenCLIP"):  # fmt: skip
        assert told in card


def test_a_checkpoint_by_digest_goes_to_transformers(weights, evergreen, tmp_path):
    from transformers import CLIPModel

    done = exported(evergreen, tmp_path, weights[2].digest, "--layout", "hugging_face")
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json"} <= {*done["files"]}
    loaded = CLIPModel.from_pretrained(tmp_path / "out")
    assert torch.equal(loaded.logit_scale, clip.build(weights[2]).logit_scale)


@pytest.mark.parametrize("arguments, said", [
    (["nothing"], "no living stream 'nothing'"),
    ([STREAM, "--entry", "9"], "no entry 9"),
    ([STREAM, "--layout", "onnx"], "'onnx', expected one of open_clip, hugging_face"),
    (["sha256:12"], "64 hex digits"),
    (["sha256:" + "0" * 64], "not in the store"),
])  # fmt: skip
def test_what_cannot_be_exported_is_said(weights, evergreen, tmp_path, arguments, said):
    code, _, err = evergreen("export", *arguments, "--output", tmp_path / "out")
    assert code == 2 and said in err and not (tmp_path / "out").exists()


def test_verify_ends_with_1_when_what_is_live_is_damaged(weights, evergreen):
    assert evergreen("verify", STREAM)[0] == 0
    store.path_of(weights[1].digest).unlink()
    code, out, _ = evergreen("verify")
    assert code == 0 and "1 artifacts of the past are gone" in out and "what is live is intact" in out
    store.path_of(weights[0].digest).unlink()
    code, out, _ = evergreen("verify", "--json")
    assert code == 1 and json.loads(out)["is_sound"] is False


def test_the_registry_agrees_after_the_command(weights, evergreen):
    code, out, err = evergreen("registry", STREAM)
    assert code == 0 and "2 versions in MLflow, version 1 is champion" in out, err
    assert evergreen("registry", "nothing")[0] == 2


def test_a_store_is_copied_and_what_is_damaged_is_named(evergreen, tmp_path):
    _, bad = (store.write_bytes(text, kind="test") for text in (b"good", b"bad"))
    store.path_of(bad).write_bytes(b"damaged")
    code, out, _ = evergreen("store", "copy", tmp_path / "other", "--json")
    said = json.loads(out)
    assert (code, said["artifacts"], said["results"]) == (1, 1, None) and bad[:19] in said["lost"][0]
    code, out, err = evergreen("store", "copy", tmp_path / "other")
    assert code == 1 and f"not copied: {bad[:19]}" in err and "has 1 artifacts" in out
    store.path_of(bad).unlink()
    assert evergreen("store", "copy", tmp_path / "other", "--results", tmp_path / "records")[0] == 0
    code, _, err = evergreen("store", "copy", "s3:///")
    assert code == 2 and "expected a folder, or a bucket" in err
