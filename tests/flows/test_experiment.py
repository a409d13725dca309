import re
import traceback
from pathlib import Path
from typing import get_args

import jsonschema
import open_clip
import pytest
import yaml

from flows.experiment import ExperimentConfig, as_yaml, load, parse
from models.schedules import AnySchedule
from models.updates import AnyMethod
from tests.flows.conftest import raw_experiment

CONFIGS = sorted(Path("flows/configs").rglob("*.yaml"))
PUBLISHED = Path("flows/configs/fomo_in_flux")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to("flows/configs")))
def test_every_shipped_experiment_loads(path):
    assert load(path).recipes


def test_every_shipped_experiment_has_a_name_of_its_own():
    names = [load(path).name for path in CONFIGS]
    assert sorted(set(names)) == sorted(names)


def test_published_settings_change_only_what_they_are_about():
    base = load(PUBLISHED / "base.yaml")
    about = {"budgets": "budget", "scales": "start", "steps": "stream", "orderings": "stream", "pools": "sources"}
    for path in CONFIGS:
        if (field := about.get(path.parent.name)) and path.stem not in ("vit_b_32",):
            changed = {name for name in type(base).model_fields if getattr(load(path), name) != getattr(base, name)}
            assert changed <= {"name", "recipes", field, *(["pretraining"] if field == "sources" else [])}, path


@pytest.mark.parametrize("factor", ["0.25", "0.5", "1", "2", "4", "6"])
def test_a_budget_is_the_published_one_times_its_factor(factor):
    assert load(PUBLISHED / f"budgets/x{factor}.yaml").budget.total == 1.8e9 * float(factor)


@pytest.mark.parametrize("steps", [20, 50, 100, 200])
def test_the_stream_is_cut_into_as_many_steps_as_the_file_says(steps):
    assert load(PUBLISHED / f"steps/{steps}.yaml").stream.number == steps


def test_joint_training_sees_as_many_samples_as_the_whole_stream():
    joint = load(PUBLISHED / "joint.yaml")
    assert joint.budget.per_step * joint.batch_size * joint.stream.number == 14_540_800
    assert [recipe.mixture.buffer for recipe in joint.recipes.values()] == [0]


def test_every_method_and_every_schedule_of_the_paper_is_in_a_published_setting():
    kinds = {recipe.update.method.kind for recipe in load(PUBLISHED / "methods.yaml").recipes.values()}
    assert kinds == {member.model_fields["kind"].default for member in get_args(get_args(AnyMethod)[0])}
    recipes = load(PUBLISHED / "schedules.yaml").recipes | load(PUBLISHED / "further_schedules.yaml").recipes
    shown = {recipe.update.schedule.kind for recipe in recipes.values()}
    assert {member.model_fields["kind"].default for member in get_args(get_args(AnySchedule)[0])} - shown == {
        "multistep"
    }


def test_the_weights_of_published_scales_are_known_to_openclip():
    known = set(open_clip.list_pretrained())
    starts = {path.stem: load(path).start for path in (PUBLISHED / "scales").glob("*.yaml")}
    unknown = {name for name, start in starts.items() if (start.model, start.weights) not in known}
    assert unknown == {"vit_s_16"} and starts["vit_s_16"].model in open_clip.list_models()


def test_a_wrong_key_is_said_to_lie_in_the_file_that_has_it(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(raw_experiment(batch_size=1)))
    (tmp_path / "own.yaml").write_text("{extends: base.yaml, recipes: {plain: {updates: {}}}}")
    with pytest.raises(ValueError) as error:
        load(tmp_path / "own.yaml")
    assert re.search(r"batch_size: .*\(found 1, in \S+base\.yaml\)", str(error.value))
    assert re.search(r"recipes\.plain\.updates: Extra .*\(found \{\}\)", str(error.value))


def test_a_recipe_may_start_from_another_of_its_file():
    recipes = {"a": {"update": {"lr": 0.5}}, "b": {"like": "a", "description": "the same again"}}
    assert parse(raw_experiment(recipes=recipes), "test").recipes["b"].update.lr == 0.5


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


def test_a_file_may_say_its_version():
    assert parse(raw_experiment(evergreen_config=1), "test") == parse(raw_experiment(), "test")


@pytest.mark.parametrize("version", [2, 0, "1", None, True])
def test_a_file_of_another_version_is_refused_before_its_keys(version):
    with pytest.raises(ValueError, match=f"test has `evergreen_config: {version!r}`.*update it") as error:
        parse(raw_experiment(evergreen_config=version, unheard="of"), "test")
    assert "unheard" not in str(error.value)


@pytest.mark.parametrize("name", ["", " ", "a/b", "zero-shot", "dataset", "role"])
def test_recipes_have_names_that_commands_and_tables_can_tell_apart(name):
    with pytest.raises(ValueError, match="`recipes` has the names"):
        parse(raw_experiment(recipes={name: {}}), "test")


def test_a_key_in_a_url_is_refused_and_repeated_nowhere():
    raw = raw_experiment()
    raw["sources"] += [
        {"kind": "image_folder", "name": "m", "dataset": "M", "data": "s3://me:HIDDEN@bucket/x?s=HIDDEN"}
    ]
    with pytest.raises(ValueError, match=r"the URL has a name or a key") as refused:
        parse(raw, "test")
    told = "".join(traceback.format_exception(refused.value))  # which the log of a deployed run gets
    assert "HIDDEN" not in told and "bucket/x" in told


def test_a_server_refuses_a_key_in_a_form_before_it_keeps_it():
    schema = jsonschema.Draft202012Validator(ExperimentConfig.model_json_schema())
    folder = {"kind": "image_folder", "name": "m", "dataset": "M", "data": "s3://bucket/x@2"}
    raw = raw_experiment()
    assert schema.is_valid(raw | {"sources": [folder]})
    assert not schema.is_valid(raw | {"sources": [folder | {"data": "s3://me:HIDDEN@bucket/x"}]})


@pytest.mark.parametrize(("training", "said"), [
    ({"kind": "torchrun", "processes": 3}, "`batch_size` is 16, which the 3 processes"),
    ({"kind": "ray", "workers": 32}, "`batch_size` is 16, which the 32 processes"),
    ({"kind": "torchrun", "processes": 2, "sharded": True}, "computes with whole weights"),
])  # fmt: skip
def test_a_launch_that_cannot_train_it_is_refused_before_anything_runs(training, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(raw_experiment(execution={"training": training}), "test")


def test_where_it_trains_decides_nothing_else():
    alone, both = (parse(raw_experiment(execution={"training": kind}), "test")
                   for kind in ({"kind": "alone"}, {"kind": "torchrun", "processes": 2}))  # fmt: skip
    assert alone.model_dump(exclude={"execution"}) == both.model_dump(exclude={"execution"})
