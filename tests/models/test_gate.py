"""The gate promotes what is as good as it has to be, rejects what is surely worse, and asks a person in between."""

import numpy as np
import pyarrow as pa
import pytest

from data_catalog import store
from models.evaluation.metrics import CLASSES, scores_of
from models.evaluation.scores import EvalReport
from models.gate import GateSpec, Roles, judge

ROLES = Roles(adaptation=("new", "old"), retention=("kept",), new=("new",), groups={"shop": ("shoes",)})
SETS = ("new", "old", "kept", "shoes")
OFF = {"each": None, "since_start": None}


def scored(hits: dict[str, list[bool]], outcomes=True) -> EvalReport:
    """A report of classification sets, each of whose images hits or misses as told."""
    scores, kept = [], {}
    for name, told in hits.items():
        table = pa.table({"rank": [int(not hit) for hit in told], "target": [0] * len(told),
                          "confidence": [0.5] * len(told)}).replace_schema_metadata({CLASSES: "4"})  # fmt: skip
        scores += scores_of(name, "classification", table)
        kept |= {name: store.write_table(table)} if outcomes else {}
    return EvalReport(checkpoint="sha256:" + "0" * 64, scores=tuple(scores), outcomes=kept)


def share(images: int, hits: int) -> list[bool]:
    return [True] * hits + [False] * (images - hits)


def at(images=400, **hits) -> EvalReport:
    """Half of the images of every set hit, unless told otherwise."""
    return scored({name: share(images, hits.get(name, images // 2)) for name in SETS})


def outcomes(verdict) -> dict[str, str]:
    return {check.name: check.outcome for check in verdict.checks if check.outcome != "promote"}


def test_what_is_as_good_everywhere_is_promoted():
    verdict = judge(GateSpec(), at(new=240), at(), ROLES, first=at())
    assert verdict.outcome == "promote" and verdict.reasons == ("every check passed",)


def test_what_surely_learned_nothing_is_rejected_with_the_numbers():
    verdict = judge(GateSpec(**OFF), at(new=100), at(), ROLES)
    assert verdict.outcome == "reject"
    assert "sets of the newest samples: 0.250 against 0.500 live, a difference of -0.250 [" in verdict.reasons[1]


def test_what_may_be_worse_is_held():
    assert outcomes(judge(GateSpec(**OFF), at(kept=194), at(), ROLES)) == {"zero-shot retention": "hold"}


def test_strict_holds_what_is_not_proven_to_be_as_good():
    loose, strict = (judge(GateSpec(**OFF, strict=strict), at(), at(images=400), ROLES) for strict in (False, True))
    assert loose.outcome == "promote" and strict.outcome == "hold"
    assert judge(GateSpec(**OFF, strict=True), at(40000), at(40000), ROLES).checks[0].outcome == "promote"


@pytest.mark.parametrize("images, outcome", [(1, "hold"), (3, "hold"), (12, "reject")])
def test_few_images_reject_nothing_even_if_all_of_them_are_lost(images, outcome):
    lost = judge(GateSpec(**OFF), at(images, kept=0), at(images, kept=images), ROLES)
    assert outcomes(lost)["zero-shot retention"] == outcome


def test_a_set_that_may_have_fallen_by_chance_holds_nothing_but_is_named():
    verdict = judge(GateSpec(), at(12, old=5, shoes=4), at(12), ROLES, None)
    assert not {"old", "shoes"} & outcomes(verdict).keys()
    notes = [check.note for check in verdict.checks if check.name == "shoes"]
    assert notes == ["may be chance: 12 images, p = 1.00 when adjusted for all sets"]


def test_a_set_that_surely_fell_is_seen_behind_means_that_did_not():
    found = outcomes(judge(GateSpec(accumulation=-0.3), at(old=150), at(), ROLES))
    assert found == {"old": "hold"}
    assert outcomes(judge(GateSpec(accumulation=-0.3), at(old=100), at(), ROLES)) == {"old": "reject"}


def test_many_sets_that_did_not_change_are_rarely_held():
    generator, held = np.random.default_rng(0), 0
    names = tuple(f"set{number}" for number in range(30))
    roles, spec = Roles(adaptation=names, retention=names, new=()), GateSpec(retention=-1, accumulation=-1)
    for _ in range(20):
        rolls = {name: generator.random((2, 40)) < 0.6 for name in names}
        sides = [scored({name: list(map(bool, both[side])) for name, both in rolls.items()}) for side in (0, 1)]
        held += judge(spec, *sides, roles).outcome != "promote"
    assert held <= 2  # without the adjustment all 20


def test_small_losses_that_add_up_are_held_but_what_keeps_the_rest_passes():
    first, live = at(kept=220), at(kept=199)
    assert outcomes(judge(GateSpec(), at(kept=198), live, ROLES, first=first)) == {
        "zero-shot retention since the start": "hold"
    }
    assert judge(GateSpec(), at(kept=199), live, ROLES, first=first).outcome == "promote"
    assert judge(GateSpec(since_start=None), at(kept=198), live, ROLES, first=first).outcome == "promote"


def test_sets_without_outcomes_are_for_a_person():
    sides = [scored({name: share(40, 20) for name in SETS}, outcomes=False) for _ in range(2)]
    verdict = judge(GateSpec(), *sides, ROLES, first=sides[1])
    assert verdict.outcome == "hold" and "no outcomes of its images are kept" in verdict.reasons[0]


@pytest.mark.parametrize("hits, outcome", [(330, "promote"), (310, "hold"), (260, "reject")])
def test_a_floor_is_rejected_only_where_the_score_is_surely_below(hits, outcome):
    spec = GateSpec(**OFF, floors={"old": 0.8})
    assert outcomes(judge(spec, at(old=hits), at(), ROLES)).get("floor of old", "promote") == outcome


def test_own_sets_are_looked_at_alone_and_as_groups():
    found = outcomes(judge(GateSpec(groups={"shop": 0.0}), at(shoes=100), at(), ROLES))
    assert found == {"group shop": "reject", "shoes": "reject"}


def test_weights_of_sets_count_in_the_means():
    ignored = judge(GateSpec(**OFF), at(old=0), at(), ROLES, {"old": 0.0})
    assert ignored.outcome == "promote"


@pytest.mark.parametrize("spec, named", [
    (GateSpec(groups={"none": 0.0}), "`gate.groups` names none, expected groups of `evaluation.groups`: shop"),
    (GateSpec(floors={"nowhere": 0.5}), "`gate.floors` names nowhere, which is not scored: kept, new, old, shoes"),
])  # fmt: skip
def test_a_gate_of_what_there_is_not_is_refused(spec, named):
    with pytest.raises(ValueError, match=named):
        judge(spec, at(), at(), ROLES)


def test_what_passes_is_held_too_where_a_person_has_the_last_word():
    verdict = judge(GateSpec(automatic=False), at(), at(), ROLES)
    assert verdict.outcome == "hold" and "`gate.automatic` is off" in verdict.reasons[0]
