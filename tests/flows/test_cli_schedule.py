"""`evergreen schedule`: every kind and meta-schedule by name, lengths, and what wrong values say."""

import json
from functools import partial

import pytest

from flows.cli_schedule import METAS, named
from models.schedules import CosineAutoregressive, Position


@pytest.fixture
def schedule(evergreen):
    """Runs `evergreen schedule` for 100 iterations; returns (exit code, stdout, stderr)."""
    return partial(evergreen, "schedule", "--iterations", 100)


def multipliers(ran) -> list[float]:
    code, out, err = ran
    assert (code, err) == (0, "")
    return json.loads(out)


def test_the_multipliers_are_a_json_list(schedule):
    told = ("--kind", "cosine", "--meta", "autoregressive", "--warmup", ".1", "--step", "5", "--json")
    expected = [CosineAutoregressive().lr_scale(Position(n, 100, 5)) for n in range(100)]
    assert multipliers(schedule(*told)) == expected


@pytest.mark.parametrize("kind, meta", [(kind, meta) for kind in METAS for meta in METAS[kind]])
def test_every_meta_schedule_has_its_kind(kind, meta):
    assert named(kind, meta.replace("_", "-"), {}).kind == METAS[kind][meta]


def test_hyphens_and_underscores_are_one(schedule):
    kind = ("--kind", "cosine", "--step", "1", "--json")
    written = [multipliers(schedule(*kind, "--meta", meta)) for meta in ("dynamic-continued", "dynamic_continued")]
    assert written[0] == written[1] and written[0][10] == pytest.approx(0.491783, abs=1e-6)


def test_lengths_may_count_iterations(schedule):
    kind = ("--kind", "rsqrt", "--json")
    assert multipliers(schedule(*kind, "--warmup", "10", "--cooldown", "20")) == multipliers(
        schedule(*kind, "--warmup", "0.1", "--cooldown", "0.2")
    )


def test_a_length_without_a_phase_is_said_to_change_nothing(schedule):
    code, out, err = schedule("--kind", "cosine", "--cooldown", "0.1", "--json")
    assert code == 0 and "cosine has no cooldown" in err
    assert json.loads(out) == multipliers(schedule("--kind", "cosine", "--json"))


def test_a_known_number_of_steps_spans_the_stream(schedule):
    kind = ("--kind", "wsd", "--meta", "whole-stream", "--set", "shape=linear", "--json")
    last = multipliers(schedule(*kind, "--steps", "4", "--step", "3"))
    assert last[19] == 1 and last[-1] == pytest.approx(0.001)


def test_without_json_it_is_a_curve_and_a_table(schedule):
    _, out, _ = schedule("--kind", "cosine")
    assert "█" in out and "0.0010" in out


def test_a_plot_is_written(schedule, tmp_path):
    multipliers(schedule("--kind", "infinite", "--step", "2", "--json", "--plot", str(tmp_path / "x.svg")))
    assert "<svg" in (tmp_path / "x.svg").read_text()


@pytest.mark.parametrize("arguments, message", [
    (("--kind", "cosin"), "expected one of constant, cosine, multistep, rsqrt, wsd, infinite"),
    (("--kind", "rsqrt", "--meta", "dynamic"), "one of none, autoregressive, continued, recovered"),
    (("--kind", "cosine", "--warmup", "200"), "does not fit in a step of 100"),
    (("--kind", "cosine", "--set", "cooldown=.1"), "cooldown: Extra inputs are not permitted"),
    (("--kind", "cosine", "--meta", "whole-stream"), "needs its number of steps"),
    (("--kind", "cosine", "--step", "3", "--steps", "3"), "ends with step 2"),
    (("--kind", "wsd", "--set", "shape"), "is no key=value"),
    (("--kind", "wsd", "--plot", "x.txt"), "ends in .png, .svg or .pdf"),
    (("--kind", "wsd", "--warmup", "-1"), "warmup"),
])  # fmt: skip
def test_wrong_values_are_bad_input(schedule, arguments, message):
    code, out, err = schedule(*arguments)
    assert code == 2 and message in err and out == ""
