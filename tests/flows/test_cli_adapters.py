"""The commands on adapters, as a user types them."""

import json
from types import SimpleNamespace

import pytest

from data_catalog.store import is_intact
from models import train
from models.updates import UpdateSpec
from models.updates.lora import Lora
from tests.models.conftest import step_plan, tiny, tiny_folder  # noqa: F401


@pytest.fixture
def expert(tiny, step_plan):  # noqa: F811
    return train.update(tiny, step_plan, UpdateSpec(method=Lora(rank=2), lr=1e-2), seed=0)


def test_an_adapter_goes_out_and_comes_in_again(evergreen, expert, tiny, tmp_path):  # noqa: F811
    folder = str(tmp_path / "out")
    code, out, _ = evergreen("adapter", "export", expert.checkpoint.digest, folder, "--json")
    assert code == 0 and json.loads(out) == {"folder": folder, "kind": "lora", "rank": 2, "places": 12}
    code, out, _ = evergreen("adapter", "fold", folder, "--onto", tiny.digest, "--json")
    folded = json.loads(out)
    assert code == 0 and is_intact(folded["digest"]) and folded["backbone"] == tiny.backbone
    assert evergreen("adapter", "export", expert.memory.digest, folder)[0] == 2


def test_a_step_is_found_in_the_record_of_its_experiment(evergreen, expert, tiny, tmp_path, monkeypatch):  # noqa: F811
    step = SimpleNamespace(step=0, expert=expert.checkpoint.digest, deployed=tiny.digest)
    record = SimpleNamespace(recipes=[SimpleNamespace(name="low", trained=[step])])
    monkeypatch.setattr("models.evaluation.record.find_record", {"mine": record}.__getitem__)
    folder = str(tmp_path / "out")
    assert evergreen("adapter", "export", "low/0", folder, "--experiment", "mine")[0] == 0
    code, out, _ = evergreen("adapter", "fold", folder, "--onto", "low/0", "--experiment", "mine")
    assert code == 0 and out.startswith("sha256:")
    code, _, err = evergreen("adapter", "fold", folder, "--onto", "low/1", "--experiment", "mine")
    assert code == 2 and "no step 'low/1' in mine: give sha256:<64 hex digits>, or one of low/0" in err


def test_a_step_of_no_experiment_is_bad_input(evergreen, tmp_path):
    code, _, err = evergreen("adapter", "export", "lora/4", str(tmp_path / "out"))
    assert code == 2 and "0 experiments have been finished" in err


def test_a_folder_without_an_adapter_is_bad_input(evergreen, tiny, tmp_path):  # noqa: F811
    code, _, err = evergreen("adapter", "fold", str(tmp_path / "none"), "--onto", tiny.digest)
    assert code == 2 and "lacks adapter_config.json" in err
