"""Planted duplicates are found at the stated thresholds; different pictures are not."""

import io
from collections import Counter
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance

from data_catalog import store
from data_catalog.duplicate_overview import examples, overlaps, overview
from data_catalog.duplicates import DUPLICATES, DuplicateSearch, find_duplicates
from data_catalog.shards import SAMPLES, DatasetRef
from data_catalog.sources.images import perceptual_hash

WIDTH, HEIGHT = 320, 240


def scene(seed):
    """A smooth picture of random colours."""
    grid = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def stored_again(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


CHANGES = {  # bits within which every one of 200 scenes was found
    "the same pixels": (0, lambda image: image),
    "JPEG of quality 30": (4, lambda image: stored_again(image, 30)),
    "half the size": (4, lambda image: image.resize((WIDTH // 2, HEIGHT // 2))),
    "squeezed": (4, lambda image: image.resize((200, 200))),
    "a tenth brighter": (8, lambda image: ImageEnhance.Brightness(image).enhance(1.1)),
    "a pixel less on each side": (8, lambda image: image.crop((1, 1, WIDTH - 1, HEIGHT - 1))),
}


def sample(split, key, image):
    return split, key, sha256(image.tobytes()).digest(), perceptual_hash(image)


def dataset(name, *samples):
    """A dataset of (split, key, hash or None, phash or None)."""
    rows = [
        {"id": f"{name}/{split}/{key}", "dataset": name, "split": split, "key": key, "hash": digest, "phash": phash}
        for split, key, digest, phash in samples
    ]
    digest = store.write_table(pa.Table.from_pylist(rows, schema=SAMPLES))
    counts = Counter(split for split, *_ in samples)
    return DatasetRef(digest=digest, name=name, samples=dict(counts), kind="classification")


def hashed(split, key, value, phash=None):
    return split, key, bytes([value]) * 32, (value * 0x0123456789ABCDEF) & (2**64 - 1) if phash is None else phash


def members(groups, kind):
    """The samples of every group of one kind."""
    found = {}
    for row in store.read_table(groups.digest).to_pylist():
        if row["kind"] == kind:
            found.setdefault(row["group"], []).append(row["sample"])
    return list(found.values())


@pytest.mark.parametrize("distance, change", CHANGES.values(), ids=CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(distance, change):
    for seed in range(10):
        photos = dataset("A", sample("train", "0", scene(seed)), sample("train", "1", scene(1000 + seed)))
        other = dataset("B", sample("test", "copy", change(scene(seed))))
        groups = find_duplicates([photos, other], DuplicateSearch(perceptual_distance=distance))
        assert members(groups, "perceptual") == [["A/train/0", "B/test/copy"]]


def test_different_pictures_are_in_no_group():
    photos = dataset("A", *(sample("train", str(seed), scene(seed)) for seed in range(100)))
    groups = find_duplicates([photos], DuplicateSearch(perceptual_distance=8))
    assert groups.groups == {"exact": 0, "perceptual": 0} and groups.samples == {"exact": 0, "perceptual": 0}


def test_equal_bytes_are_exact_duplicates_within_and_across_datasets_and_splits():
    one = dataset("A", hashed("train", "x", 1), hashed("train", "y", 1), hashed("test", "z", 2))
    two = dataset("B", hashed("train", "x", 2), hashed("train", "w", 3))
    groups = find_duplicates([one, two], DuplicateSearch(kinds=("exact",)))
    assert members(groups, "exact") == [["A/test/z", "B/train/x"], ["A/train/x", "A/train/y"]]
    assert store.read_table(groups.digest).schema.equals(DUPLICATES)
    assert (groups.groups, groups.samples, groups.compared) == ({"exact": 2}, {"exact": 4}, {"exact": 5})


def test_the_order_of_datasets_and_samples_does_not_matter():
    made = [hashed("train", str(i), i % 4, phash=0xFFFFFFFF << (i % 3)) for i in range(12)]
    one, two = dataset("A", *made[:7]), dataset("B", *made[7:])
    turned = dataset("A", *made[6::-1]), dataset("B", *made[:6:-1])
    found, again = find_duplicates([one, two], DuplicateSearch()), find_duplicates(turned[::-1], DuplicateSearch())
    assert found.digest == again.digest


def test_distance_is_that_to_the_first_member():
    base = 0xFFFFFFFF
    chain = dataset("A", *(hashed("train", str(i), i, phash=base ^ (2 ** (3 * i) - 1)) for i in range(4)))
    table = store.read_table(find_duplicates([chain], DuplicateSearch(kinds=("perceptual",))).digest)
    assert table["distance"].to_pylist() == [0, 3, 6, 9]


def test_groups_of_all_kinds_have_their_own_numbers():
    twins = dataset("A", hashed("train", "x", 1, 0xFFFFFFFF), hashed("train", "y", 1, 0xFFFFFFFF))
    table = store.read_table(find_duplicates([twins], DuplicateSearch()).digest).to_pylist()
    assert [(row["group"], row["kind"]) for row in table] == [(0, "exact")] * 2 + [(1, "perceptual")] * 2


def test_plain_areas_are_compared_exactly_alone():
    plain = [Image.new("RGB", (40, 30), colour) for colour in ("black", "white", "grey", "grey")]
    groups = find_duplicates(
        [dataset("A", *(sample("train", str(i), p) for i, p in enumerate(plain)))], DuplicateSearch()
    )
    assert members(groups, "exact") == [["A/train/2", "A/train/3"]] and members(groups, "perceptual") == []
    assert (groups.flat, groups.compared) == (4, {"exact": 4, "perceptual": 0})


def test_samples_indexed_unread_are_counted_not_compared():
    unread = dataset("A", ("train", "x", None, None), ("train", "y", None, None), hashed("train", "z", 1))
    groups = find_duplicates([unread], DuplicateSearch())
    assert groups.not_compared == {"exact": 2, "perceptual": 2} and groups.samples == {"exact": 0, "perceptual": 0}


def test_only_the_named_datasets_are_searched():
    one, two = dataset("A", hashed("train", "x", 1)), dataset("B", hashed("train", "x", 1))
    assert find_duplicates([one, two], DuplicateSearch(datasets=("A",))).groups["exact"] == 0
    with pytest.raises(ValueError, match=r"names C, which no source holds; found: \['A', 'B'\]"):
        find_duplicates([one, two], DuplicateSearch(datasets=("A", "C")))


def test_overlaps_count_groups_within_and_across_places():
    one = dataset("A", *(hashed("train", key, 1) for key in "xyz"), hashed("test", "t", 1))
    two = dataset("B", hashed("test", "t", 1), hashed("test", "u", 2), hashed("test", "v", 2))
    rows = overlaps(find_duplicates([one, two], DuplicateSearch(kinds=("exact",))))
    assert [(row["one"], row["other"], row["groups"]) for row in rows] == [
        ("A/test", "A/train", 1), ("A/test", "B/test", 1), ("A/train", "A/train", 1), ("A/train", "B/test", 1),
        ("B/test", "B/test", 1),
    ]  # fmt: skip


def test_the_overview_tells_chains_from_tight_groups():
    chain = [hashed("train", str(i), i, phash=0xFFFFFFFF ^ (2 ** (3 * i) - 1)) for i in range(4)]
    row = overview(find_duplicates([dataset("A", *chain)], DuplicateSearch(kinds=("perceptual",))))[0]
    assert (row["groups"], row["largest"], row["widest"], row["across_splits"]) == (1, 4, 9, 0)


def test_examples_show_groups_across_places_first():
    one = dataset("A", *(hashed("train", key, 1) for key in "abcdef"), hashed("train", "x", 2))
    rows = examples(find_duplicates([one, dataset("B", hashed("test", "x", 2))], DuplicateSearch(kinds=("exact",))))
    assert [row["samples"] for row in rows] == [
        "A/train/x, B/test/x", "A/train/a, A/train/b, A/train/c, A/train/d and 2 more",
    ]  # fmt: skip
