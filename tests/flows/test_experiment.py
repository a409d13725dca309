from pathlib import Path

import pytest
import yaml

from flows.experiment import as_yaml, load, parse
from tests.flows.conftest import raw_experiment

CONFIGS = sorted(Path("flows/configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_experiment_loads(path):
    assert load(path).recipes


def test_an_experiment_survives_being_written_out(experiment):
    assert parse(yaml.safe_load(as_yaml(experiment)), "again") == experiment


def test_a_seed_replaces_that_of_experiment_and_synthetic_data():
    experiment = load("flows/configs/demo.yaml", seed=7)
    assert experiment.seed == 7 and experiment.sources[0].seed == 7


@pytest.mark.parametrize("change, message", [
    ({"recipez": {}}, "recipez: Extra inputs are not permitted"),
    ({"batch_size": 1}, r"batch_size: Input should be greater than or equal to 2 \(found 1\)"),
    ({"recipes": {"a": {"mixture": {"update": 0.5, "buffer": 0.2, "pretraining": 0.2}}}}, "mixture sums to 0.900"),
    ({"recipes": {"a": {"update": {"method": {"kind": "lorra"}}}}}, "lorra"),
    ({"pretraining": []}, "`start` trains on the pretraining pool"),
    ({"pretraining": [], "start": {"kind": "pretrained", "model": "m"}}, "recipe 'merged' takes 0.33"),
    ({"pretraining": ["SHAPES", "SHAPES"]}, "`pretraining` names SHAPES more than once"),
    ({"past_weights": [1.5]}, "less than or equal to 1"),
    ({"evaluation": {"retention": []}}, "retention"),
    ({"name": "../x"}, "name: String should match"),
])  # fmt: skip
def test_bad_input_is_named_with_its_place(change, message):
    with pytest.raises(ValueError, match=message):
        parse(raw_experiment(**change), "test.yaml")


@pytest.mark.parametrize("text, message", [("a: [1", "not valid YAML"), ("- 1", "expected a mapping")])
def test_a_file_that_is_no_experiment_is_refused(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.yaml")


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"no experiment file nowhere\.yaml"):
        load("nowhere.yaml")


STREAMS = (
    {"ordering": {"kind": "similarity"}, "captions": {"choice": {"kind": "weighted", "weights": {"template": 1}}}},
    {
        "ordering": {"kind": "similarity", "starts": 3},
        "captions": {"choice": {"kind": "best"}, "otherwise": ["template"]},
    },
    {"ordering": {"kind": "difficulty", "pairs": 5}, "cut": "equal", "scored_by": {"model": "ViT-B-32"}},
    {"ordering": {"kind": "dataset_by_dataset"}, "cut": "by_dataset", "duplicates": {"policy": {"action": "drop"}}},
    {"ordering": {"kind": "frequency", "table": "counts.csv"}, "steps": 7},
    {"ordering": {"kind": "time", "years": {"DIGITS": 1998}}, "cut": "by_year"},
    {"ordering": {"kind": "sql", "query": "SELECT 1"}, "duplicates": {"search": {"kinds": ["embedding"]}}},
)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream["ordering"]["kind"])
def test_an_experiment_that_is_written_out_reads_back_the_same(stream):
    recipes = {
        "one": {"mixture": "iidify", "buffer": {"kind": "reservoir", "size": 9}, "pool": {"kind": "subset", "size": 5}}
    }
    experiment = parse(raw_experiment(stream=stream, recipes=recipes), "test")
    assert parse(yaml.safe_load(as_yaml(experiment)), "written out") == experiment


def test_steps_are_twenty_only_where_the_cut_does_not_make_them():
    assert parse(raw_experiment(stream={"ordering": {"kind": "random"}}), "test").stream.number == 20
    by_dataset = {"ordering": {"kind": "dataset_by_dataset"}, "cut": "by_dataset"}
    assert parse(raw_experiment(stream=by_dataset), "test").stream.number is None
