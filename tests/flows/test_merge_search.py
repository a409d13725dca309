"""A merge is chosen by validation images alone: as a stage of the stream, and afterwards by a command."""

import json
import shutil
from contextlib import nullcontext

import pytest
import yaml

from data_catalog import store
from flows.continual import continual_pretrain
from flows.experiment import as_yaml, parse
from flows.merge_search import chosen_merge, deploying, entering, given_search, merge_search
from models.checkpoints import CheckpointRef
from models.evaluation import scoring
from models.evaluation.record import load_record
from models.merging.linear import Linear
from models.merging.temporal import History, MergeSpec
from tasks.journal import ALWAYS, journal
from tests.flows.conftest import living_in, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")
WEIGHTS = [[0.0, 1.0], [0.7, 0.3]]
SEARCH = {"kind": "grid", "techniques": [{"kind": "linear", "weights": WEIGHTS}]}
MERGED = {"update": {"lr": 5e-3}, "merge": {"init": "ema", "deploy": "ema"}}


def searching(search=SEARCH, merge=MERGED["merge"], **validation):
    """The tiny experiment with one recipe that searches."""
    recipe = MERGED | {"merge": merge} | ({"search": search} if search else {})
    evaluation = raw_experiment()["evaluation"] | {"validation": {"share": 0.3} | validation}
    stream = {"ordering": {"kind": "dataset_by_dataset"}, "steps": 2}
    return raw_experiment(recipes={"found": recipe}, evaluation=evaluation, stream=stream, past_weights=[])


@pytest.fixture(scope="module")
def life(prefect_backend, tmp_path_factory):
    """A home in which an experiment with a search was run once; its record, and what was scored in which order."""
    home, seen = tmp_path_factory.mktemp("life") / "home", []
    with living_in(home) as patch:
        spied(patch, seen)
        with journal() as stages:
            report = continual_pretrain(parse(searching(), "test"))
        record = load_record(report.digest)
    return home, record, seen, list(stages)


@pytest.fixture
def home(life, tmp_path, monkeypatch):
    """A copy of that home, to be spoiled."""
    shutil.copytree(life[0], tmp_path / "home", symlinks=True)
    return tmp_path / "home"


def spied(patch, seen):
    """Note the checkpoint and the sets of every evaluation."""
    evaluate = scoring.evaluate_many

    def noted(checkpoints, eval_sets, *rest, **options):
        seen.extend((some.digest, tuple(each.name for each in eval_sets)) for some in checkpoints)
        return evaluate(checkpoints, eval_sets, *rest, **options)

    patch.setattr(scoring, "evaluate_many", noted)


def is_validation(names):
    kinds = {name.endswith("/validation") for name in names}
    assert len(kinds) == 1, f"test and validation sets in one evaluation: {names}"
    return kinds.pop()


def test_only_what_is_deployed_meets_a_test_image(life):
    _, record, seen, _ = life
    tested = {checkpoint for checkpoint, names in seen if not is_validation(names)}
    validated = {checkpoint for checkpoint, names in seen if is_validation(names)}
    deployed = {step.deployed for step in record.recipes[0].steps}
    assert tested == deployed | {record.pretrained} and len(validated) > len(deployed)


def test_the_best_candidate_by_validation_is_deployed(life, home):
    for step in (0, 1):
        report = merge_search(parse(searching(), "test"), "found", step)
        assert {trial.technique.weights for trial in report.trials} == {(0.1, 0.9), *map(tuple, WEIGHTS)}
        assert report.best.checkpoint == life[1].recipes[0].steps[step].deployed
        assert report.best.geometric_mean == max(trial.geometric_mean for trial in report.trials)
    assert len({trial.checkpoint for trial in report.trials}) == 3


def test_what_was_merged_and_scored_in_the_stream_is_not_done_again_by_the_command(life, home):
    with journal() as stages:
        merge_search(parse(searching(), "test"), "found", 1)
    ran = [stage.label for stage in stages if not stage.reused and stage.reason != ALWAYS]
    assert ran == []


def test_sets_that_arrive_later_have_no_say(life):
    _, record, seen, _ = life
    first, *_, last = [set(names) for _, names in seen if is_validation(names)]
    arrived = {*record.stream[0].datasets, *record.retention}
    assert first == {f"{name}/validation" for name in arrived}
    assert last == {f"{name}/validation" for name in (*record.adaptation, *record.retention)} > first


def test_a_recipe_without_a_search_merges_as_it_says(experiment):
    assert chosen_merge(experiment, "merged", None, None, None, 0) is experiment.recipes["merged"].merge


def test_all_experts_can_be_merged_instead(home):
    search = {"kind": "sampled", "trials": 2, "techniques": [{"kind": "ties", "density": {"low": 0.1, "high": 1}}]}
    report = merge_search(parse(searching(), "test"), search=search, over="all")
    assert len(report.merged) == 2 and len(report.trials) == 2 and report.step == 1


def test_the_command_prints_what_it_found(home, evergreen, monkeypatch, tmp_path):
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    (tmp_path / "mine.yaml").write_text(as_yaml(parse(searching(), "test")))
    arguments = ["merge-search", tmp_path / "mine.yaml", "--recipe", "found", "--step", 0, "--search",
                 tmp_path / "search.yaml", "--json"]  # fmt: skip
    monkeypatch.setattr("flows.server.api", nullcontext)  # the tests have one
    code, out, _ = evergreen(*arguments)
    found = json.loads(out)
    assert not code and sum(trial["is_best"] for trial in found["trials"]) == 1
    assert store.locate(next(trial["checkpoint"] for trial in found["trials"] if trial["is_best"]))


@pytest.mark.parametrize("spec, over, merged", [
    ({"deploy": "ema"}, None, "c2"),
    ({"deploy": "ema"}, "all", "abc"),
    ({"deploy": "all", "include_zs": True}, None, "0abc"),
    ({"deploy": "ft"}, None, "c2"),
    ({"deploy": "ft", "include_zs": True}, None, "0c"),
    ({"deploy": "zs"}, "all", "abc"),
])  # fmt: skip
def test_what_a_search_merges_follows_what_the_recipe_deploys(spec, over, merged):
    known = {letter: CheckpointRef(digest=f"sha256:{ord(letter):064x}", backbone="x") for letter in "0ab2c"}
    history = History(pretrained=known["0"], experts=(known["a"], known["b"]), running=known["2"])
    found = entering(history, known["c"], deploying(MergeSpec(technique=Linear(), **spec), over))
    assert found == [known[letter] for letter in merged]


@pytest.mark.parametrize("raw, arguments, message", [
    (raw_experiment(), {}, "keeps no images to choose by: set `evaluation.validation`"),
    (searching(), {"recipe": "lost"}, "no recipe 'lost' in tiny, only found"),
    (searching(), {"step": 2}, "step 2 is not in a stream of 2 steps"),
    (searching(), {"search": "nowhere.yaml"}, "no file nowhere.yaml"),
    (searching() | {"batch_size": 8}, {}, "had another batch_size: `evergreen run` the experiment as it is now"),
    (searching(share=0.2), {}, "had another evaluation.validation"),
    (searching() | {"seed": 4}, {}, "no experiment 'tiny-seed4' has been finished"),
])  # fmt: skip
def test_a_search_that_cannot_be_made_says_why(home, raw, arguments, message):
    with pytest.raises(ValueError, match=message):
        merge_search(parse(raw, "test"), **arguments)


@pytest.mark.parametrize("raw, message", [
    (searching() | {"evaluation": raw_experiment()["evaluation"]}, "recipe 'found' has a `search`, but no images"),
    (searching(merge={"init": "ft", "deploy": "ft"}), "`merge.deploy` is ft, which is none"),
    (searching(search={"kind": "grid", "techniques": [{"kind": "linear", "weights": [[0.2, 0.3, 0.5]]}]}), "3 merge"),
])  # fmt: skip
def test_a_recipe_that_cannot_search_is_refused(raw, message):
    with pytest.raises(ValueError, match=message):
        parse(raw, "test")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"kind: [", b"", b"kind: grid"])
def test_a_file_that_is_no_search_is_named(tmp_path, content):
    (tmp_path / "search.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"search\.yaml is not a valid search"):
        given_search(str(tmp_path / "search.yaml"))
