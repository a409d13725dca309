import pyarrow as pa

from models.evaluation.occurrences import Occurrences


def table(*images):
    """Rows of images named by shard and hash."""
    return pa.table({
        "shard": [shard for shard, _ in images], "offset": pa.array([0] * len(images), pa.int64()),
        "length": pa.array([1] * len(images), pa.int64()), "hash": pa.array([hash for _, hash in images], pa.binary()),
    })  # fmt: skip


def places(seen, start, stop):
    return [(some.table, some.image.tolist(), some.row.tolist()) for some in seen.within(start, stop)]


def test_images_of_one_hash_are_one_image():
    seen = Occurrences([table(("a", b"1"), ("b", b"2"), ("c", b"1")), table(("d", b"3"), ("e", b"2"))])
    assert seen.images["shard"].to_pylist() == ["a", "b", "d"]
    assert places(seen, 0, 3) == [(0, [0, 0, 1], [0, 2, 1]), (1, [1, 2], [1, 0])]


def test_images_of_unknown_hash_are_told_by_their_place():
    seen = Occurrences([table(("a", None), ("b", None)), table(("b", None))])
    assert seen.images["shard"].to_pylist() == ["a", "b"]
    assert places(seen, 1, 2) == [(0, [0], [1]), (1, [0], [0])]


def test_spans_share_no_occurrence_and_miss_none():
    seen = Occurrences([table(*((str(i % 7), bytes([i % 7])) for i in range(20)))])
    rows = [row for start in range(0, 7, 3) for some in seen.within(start, start + 3) for row in some.row.tolist()]
    assert sorted(rows) == list(range(20))
