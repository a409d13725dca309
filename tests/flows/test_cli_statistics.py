"""The command that takes statistics of an expert, as a user types it."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from data_catalog.store import locate
from flows.experiment import as_yaml
from models import train
from models.checkpoints import load
from models.merging.statistics import collect
from models.updates import UpdateSpec
from tests.models.conftest import step_plan, tiny, tiny_folder  # noqa: F401 -- fixtures


@pytest.fixture
def evergreen(evergreen):
    """Runs `evergreen statistics`."""
    return partial(evergreen, "statistics")


@pytest.fixture
def expert(tiny, step_plan, experiment, monkeypatch):  # noqa: F811
    """The expert of the one step of a recorded run."""
    made = train.update(tiny, step_plan, UpdateSpec(lr=1e-3), seed=0).checkpoint
    step = SimpleNamespace(step=0, expert=made.digest, step_plan=step_plan.digest, iterations=8, draws={"update": 64})
    config = as_yaml(experiment.model_copy(update={"batch_size": 8}))
    recipes = [SimpleNamespace(name="plain", trained=[step])]
    record = SimpleNamespace(name="mine", config=config, recipes=recipes)
    monkeypatch.setattr("models.evaluation.record.find_record", {"mine": record}.__getitem__)
    return made


@pytest.mark.parametrize("kind", ["fisher", "gram"])
def test_the_file_is_what_a_run_would_collect(evergreen, expert, step_plan, tmp_path, kind):  # noqa: F811
    output = tmp_path / "found.safetensors"
    code, out, _ = evergreen("plain/0", "--kind", kind, "--output", output, "--experiment", "mine", "--samples", 16,
                             "--json")  # fmt: skip
    wanted = collect(kind, expert, step_plan, UpdateSpec(), 16, seed=0)
    assert code == 0 and json.loads(out)["digest"] == wanted.digest
    assert output.read_bytes() == locate(wanted.digest).read_bytes() and set(load_file(output)) <= set(load(expert))


def test_bad_input_says_what_can_be_given(evergreen, expert, tmp_path):
    rest = ("--kind", "gram", "--experiment", "mine", "--output")
    code, _, err = evergreen("plain/1", *rest, tmp_path / "out.safetensors")
    assert code == 2 and "no step 'plain/1' in mine: give one of plain/0" in err
    code, _, err = evergreen("plain/0", *rest, tmp_path / "none" / "out.safetensors")
    assert code == 2 and "there is no folder" in err
