"""`evergreen compose`: presets by name, cuts, and what wrong values say."""

import json
from pathlib import Path

import pytest

PUBLISHED = Path(__file__).parents[3] / "shared/fomo_in_flux/streams"


@pytest.fixture
def compose(evergreen, tmp_path):
    """Runs `evergreen compose` on a stream of two datasets; returns (exit code, its JSON or its message)."""
    (tmp_path / "stream.json").write_text(json.dumps([f"DTD+++{i}" for i in range(3)] + ["CLEVR+++x"]))

    def run(*arguments, stream=tmp_path / "stream.json"):
        code, out, err = evergreen("compose", "--json", "--stream", stream, *arguments)
        return (code, err) if code else (0, json.loads(out)["steps"])

    return run


def test_a_mixture_by_its_shares_or_its_name(compose):
    _, by_name = compose("--steps", "2", "--mixture", "iidify")
    _, by_shares = compose("--steps", "2", "--mixture", "0,.1,.9")
    assert by_name == by_shares
    assert by_name[1]["batch"] == {"pretraining": 1, "update": 51, "buffer": 460}


def test_a_cut_makes_as_many_steps_as_it_makes(compose):
    _, steps = compose("--cut", "by_dataset")
    assert [(step["concepts"], step["datasets"]) for step in steps] == [(3, ["DTD"]), (1, ["CLEVR"])]


@pytest.mark.parametrize("arguments, message", [
    (("--mixture", "iid"), "or one of paper, no_buffer"),
    (("--mixture", ".5,.5"), "expected three shares"),
    (("--mixture", ".5,.5,.5"), "mixture sums to 1.500"),
    (("--cut", "by_month"), "expected one of equal, by_dataset, by_year"),
    (("--cut", "by_dataset", "--steps", "3"), "set `steps` to 2"),
    ((), "4 concepts cannot be spread over 20 steps"),
])  # fmt: skip
def test_wrong_values_are_bad_input(compose, arguments, message):
    code, said = compose(*arguments)
    assert code == 2 and message in said


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")
def test_the_defaults_are_the_benchmarks(compose):
    _, steps = compose(stream=PUBLISHED / "random_sequence_1.json.gz")
    assert [step["concepts"] for step in steps] == [920] + 19 * [919]
    assert steps[0]["batch"]["update"] == 259 and steps[5]["batch"]["buffer"] == 168
