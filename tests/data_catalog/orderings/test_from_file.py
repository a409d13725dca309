"""Stream files: resolved, checked and named when wrong; the published ones hold what the benchmark says."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from data_catalog.orderings.base import Concept
from data_catalog.orderings.from_file import FromFile, read_stream

PUBLISHED = Path(__file__).parents[4] / "shared/fomo_in_flux/streams"
CONCEPTS = [Concept("OXFORDPETS", "beagle"), Concept("OXFORDPETS", "pug"), Concept("MINE", "a+++b")]
RNG = np.random.default_rng(0)


def written(tmp_path, entries, **fields):
    (tmp_path / "stream.json").write_text(json.dumps(entries))
    return FromFile(path=str(tmp_path / "stream.json"), **fields)


def test_names_are_resolved_through_the_aliases_and_split_once(tmp_path):
    ordering = written(tmp_path, ["oxford_pets+++pug", "MINE+++a+++b"])
    assert ordering.order(CONCEPTS, RNG) == [Concept("OXFORDPETS", "pug"), Concept("MINE", "a+++b")]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["MINE+++a+++b", "MINE+++a+++b"], "more than once, first 'MINE"),
        (["OXFORDPETS+++pug", "oxford_pets+++pug"], "more than once, first 'OXFORDPETS"),
        (["MINER+++x"], "dataset 'MINER'.*close matches: .*MINE"),
        (["OXFORDPETS+++beagel"], "'beagel' of OXFORDPETS.*close matches: .*beagle"),
        (["OXFORDPETS"], "entry 0 of .*expected 'NAME"),
        ([3], "entry 0 of .* is 3"),
        ([], "not a stream"),
    ],
)
def test_wrong_entries_are_errors_that_help(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        written(tmp_path, entries).order(CONCEPTS, RNG)


def test_a_shuffle_seed_gives_another_order_of_the_same_concepts(tmp_path):
    entries = [f"MINE+++{i}" for i in range(30)]
    concepts = [Concept("MINE", str(i)) for i in range(30)]
    once, again = (written(tmp_path, entries, shuffle_seed=1).order(concepts, RNG) for _ in range(2))
    assert once == again != concepts and sorted(once) == sorted(concepts)


def test_the_content_changes_with_the_file(tmp_path):
    assert written(tmp_path, ["A+++b"]).content() != written(tmp_path, ["A+++c"]).content()


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")
def test_every_published_stream_holds_the_same_concepts():
    full = [read_stream(path) for path in sorted(PUBLISHED.glob("*_[0-9].json.gz"))]
    assert {len(stream) for stream in full} == {18381}
    assert len({frozenset(stream) for stream in full}) == 1


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")
def test_published_reversals_are_exact():
    forth, back = (
        json.loads(gzip.decompress((PUBLISHED / f"random_sequence{name}_1.json.gz").read_bytes()))
        for name in ("", "_reverse")
    )
    assert forth == back[::-1]
