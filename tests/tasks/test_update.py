"""The two stages that update weights."""

from tasks.update import update_weights, update_with_snapshots


def test_updates_with_and_without_looks_inside_are_of_one_revision():
    looked_into, plain = (task.cache_policy.stage for task in (update_with_snapshots, update_weights))
    assert looked_into.revision == plain.revision  # they make the same weights
    assert looked_into.ignore == plain.ignore
