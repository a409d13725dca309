"""Images kept to choose by: nothing trains on them, they are no test images, and without them nothing changes."""

import pytest

from data_catalog import store
from data_catalog.stream import samples_of
from flows.experiment import parse
from tests.flows.conftest import prepared_alone, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")


@pytest.fixture
def prepared():
    """Prepares the tiny experiment with changes to its `evaluation` and `stream`."""

    def run(stream=None, **evaluation):
        raw = raw_experiment()
        changes = {"evaluation": raw["evaluation"] | evaluation, "stream": raw["stream"] | (stream or {})}
        experiment = parse(raw_experiment(**changes), "test")
        return prepared_alone(experiment)

    return run


def ids_of(sets):
    return {name for some in sets for name in store.read_table(some.digest)["id"].to_pylist()}


def test_validation_images_are_in_no_pool_and_in_no_test_set(prepared):
    plain, validated = prepared(), prepared(validation={"share": 0.3})
    before, after = ({*samples_of(life.plan)["sample"].to_pylist()} for life in (plain, validated))
    aside = ids_of(validated.validation_sets)
    assert aside and before - after == aside and not aside & ids_of(validated.eval_sets)
    assert any(name.startswith("SHAPES/") for name in aside) and any(name.startswith("DIGITS/") for name in aside)
    names = [*validated.adaptation, *validated.retention]
    assert [some.name for some in validated.validation_sets] == [f"{name}/validation" for name in names]
    assert validated.eval_sets == plain.eval_sets and plain.validation_sets == () == plain.exclusions
    assert validated.start != plain.start  # the first weights are trained here, on the pool


def test_twins_of_test_images_are_not_validated_on(prepared):
    search = {"kinds": ["exact", "perceptual"], "perceptual_distance": 12}
    policy = {"action": "drop", "scope": "evaluation"}
    found = prepared(stream={"duplicates": {"search": search, "policy": policy}}, validation={"share": 0.5})
    held_out, twins = _excluded(found)
    aside = ids_of(found.validation_sets)
    assert held_out & twins and aside == held_out - twins


def _excluded(found):
    by_cause = {some.cause: {*store.read_table(some.digest)["sample"].to_pylist()} for some in found.exclusions}
    return by_cause["validation images"], by_cause["duplicates of evaluation images"]


def test_a_set_that_is_nowhere_cannot_be_left_out(prepared):
    with pytest.raises(ValueError, match=r"`evaluation\.validation\.without` names NOWHERE, which is neither"):
        prepared(validation={"share": 0.3, "without": ["NOWHERE"]})
