"""What a policy leaves out of training, and which evaluation images are not clean."""

import pyarrow as pa
import pytest

from data_catalog import store
from data_catalog.duplicates import DUPLICATES, DuplicateGroups
from data_catalog.leaks import DuplicatePolicy, exclusions, leaks, uncompared

ROWS = [  # kind, group, sample
    ("exact", 0, "A/test/1"), ("exact", 0, "A/train/1"), ("exact", 0, "B/train/1"),
    ("exact", 1, "A/train/2"), ("exact", 1, "A/train/3"), ("exact", 1, "B/train/2"),
    ("perceptual", 2, "A/test/1"), ("perceptual", 2, "A/train/1"), ("perceptual", 2, "A/train/4"),
    ("perceptual", 2, "B/train/1"), ("perceptual", 3, "A/test/5"), ("perceptual", 3, "B/test/5"),
]  # fmt: skip


@pytest.fixture
def groups():
    return stored(ROWS)


def stored(rows):
    names = ["sample", "dataset", "split", "group", "kind", "distance"]
    table = [dict(zip(names, (s, *s.split("/")[:2], group, kind, 0.0), strict=True)) for kind, group, s in rows]
    kinds = sorted({kind for kind, *_ in rows})
    counts = dict.fromkeys(kinds, 0)
    sizes = {kind: len({group for k, group, _ in rows if k == kind}) for kind in kinds}
    digest = store.write_table(pa.Table.from_pylist(table, schema=DUPLICATES))
    return DuplicateGroups(
        digest=digest, datasets={}, groups=sizes, samples=counts, compared=counts, not_compared=counts
    )


def excluded(ref):
    return dict(zip(*store.read_table(ref.digest).to_pydict().values(), strict=True))


def test_keeping_excludes_nothing(groups):
    assert exclusions([groups], DuplicatePolicy()) is None


def test_training_samples_that_share_a_group_with_an_evaluation_sample_are_dropped(groups):
    dropped = exclusions([groups], DuplicatePolicy(action="drop"))
    assert excluded(dropped) == {
        "A/train/1": "exact duplicate of A/test/1",
        "A/train/4": "perceptual duplicate of A/test/1",
        "B/train/1": "exact duplicate of A/test/1",
    }
    assert (dropped.effect, dropped.cause, dropped.samples) == ("drop", "duplicates of evaluation images", 3)


def test_all_but_the_first_training_sample_of_a_group_are_dropped(groups):
    dropped = exclusions([groups], DuplicatePolicy(action="drop", scope="training", kinds=("exact",)))
    assert excluded(dropped) == {
        "A/train/3": "exact duplicate of A/train/2",
        "B/train/1": "exact duplicate of A/train/1",
        "B/train/2": "exact duplicate of A/train/2",
    }


def test_both_scopes_drop_what_either_does_and_name_the_evaluation_image(groups):
    dropped = excluded(exclusions([groups], DuplicatePolicy(action="drop", scope="both")))
    assert sorted(dropped) == ["A/train/1", "A/train/3", "A/train/4", "B/train/1", "B/train/2"]
    assert dropped["B/train/1"] == "exact duplicate of A/test/1"


def test_marking_says_so(groups):
    assert exclusions([groups], DuplicatePolicy(action="mark")).effect == "mark"


def test_a_twin_that_nobody_trains_on_drops_nothing(groups):
    policy = DuplicatePolicy(action="drop", scope="training", kinds=("exact",))
    assert excluded(exclusions([groups], policy, trained=pa.array(["B/train/1", "B/train/2"]))) == {}


def test_images_of_sets_that_are_not_scored_drop_nothing(groups):
    policy = DuplicatePolicy(action="drop")
    assert excluded(exclusions([groups], policy, evaluation_datasets=["B"])) == {}


def test_large_groups_that_are_not_exact_count_only_if_allowed(groups):
    policy = DuplicatePolicy(action="drop", largest_group=3)
    assert "A/train/4" not in excluded(exclusions([groups], policy))
    assert "B/train/1" in excluded(exclusions([groups], policy))  # by its exact group


def test_groups_found_apart_count_together(groups):
    near = stored([("embedding", 0, "B/test/5"), ("embedding", 0, "B/train/9")])
    dropped = excluded(exclusions([groups, near], DuplicatePolicy(action="drop")))
    assert dropped["B/train/9"] == "embedding duplicate of B/test/5" and len(dropped) == 4


def test_no_groups_drop_nothing():
    assert exclusions([], DuplicatePolicy(action="drop")).samples == 0


def test_evaluation_images_with_a_twin_in_training_leak(groups):
    assert excluded(leaks([groups], DuplicatePolicy())) == {"A/test/1": "exact duplicate of A/train/1"}


def test_what_is_not_trained_on_leaks_nothing(groups):
    assert leaks([groups], DuplicatePolicy(), trained=pa.array(["C/train/1"])).samples == 0
    assert leaks([groups], DuplicatePolicy(), trained=pa.array(["A/train/4"])).samples == 1


def test_datasets_whose_bytes_were_not_read_are_uncompared_unless_embedded(groups, datasets):
    shapes, scenes = datasets["SHAPES"], datasets["SCENES"]
    table = store.read_table(scenes.digest)
    unread = table.set_column(table.column_names.index("hash"), "hash", pa.nulls(len(table), pa.binary(32)))
    scenes = scenes.model_copy(update={"digest": store.write_table(unread)})
    looked_at = {"datasets": {"SHAPES": shapes.digest, "SCENES": scenes.digest}}
    hashed = groups.model_copy(update=looked_at | {"groups": {"exact": 1}})
    embedded = groups.model_copy(update=looked_at | {"groups": {"embedding": 1}})
    assert uncompared([hashed], [shapes, scenes]) == ["SCENES"]
    assert uncompared([hashed, embedded], [shapes, scenes]) == []
    assert uncompared([], [shapes]) == ["SHAPES"]
