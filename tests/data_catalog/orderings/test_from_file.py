"""Stream files: resolved, checked and named when wrong; the published ones hold what the benchmark says."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from data_catalog import registry
from data_catalog.orderings.base import Concept
from data_catalog.orderings.from_file import FromFile, read_stream

PUBLISHED = Path(__file__).parents[4] / "shared/fomo_in_flux/streams"
CONCEPTS = [Concept("OXFORDPETS", "beagle"), Concept("OXFORDPETS", "pug"), Concept("MINE", "a+++b")]
RNG = np.random.default_rng(0)
YEARS = {  # reference section 3.2: the datasets between one position of the stream and the next
    102: "FLOWERS102",
    202: "CIFAR100",
    599: "SUN397",
    799: "CUB200",
    899: "FGVCAircraft",
    3293: "BIRDSNAP DTD ZAPPOS50k",
    5290: "MITSTATES PLANTVILLAGE",
    5884: "AI2DIAGRAMS OPENIMAGES",
    6785: "CLEVR DSPRITES FRU92 PLACES365 VEG200",
    7687: "PATTERNNET SHAPES3D",
    9482: "DOMAINNET_CLIPART DOMAINNET_INFOGRAPH DOMAINNET_PAINTING DOMAINNET_SKETCH MVTECAD_Adapt MVTECAD_Eval "
    "OBJECTNET",
    9741: "CLRS ISICMELANOMA MTSD",
    12676: "COUNTRY211 DF20MINI iNATURALIST2021 RESISC45",
    17961: "ARTBENCH10 DOLLARSTREET SNAKECLEF FSCOCO",
    18381: "OBSC_ANIMALS OBSC_THINGS QUILT SynthCLIP106",
}


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
@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*_reverse_1.json.gz")), ids=lambda path: path.name)
def test_published_reversals_are_what_reverse_makes(path):
    forth = FromFile(path=str(path).replace("_reverse_1", "_1"), reverse=True)
    back = FromFile(path=str(path))
    concepts = _resolved(path)
    assert forth.order(concepts, RNG) == back.order(concepts, RNG)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")
@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("time_incremental_*.json.gz")), ids=lambda path: path.name)
def test_published_time_streams_have_the_years_one_after_the_other(path):
    start, stream = 0, read_stream(path)
    for end, datasets in YEARS.items():
        assert {entry.dataset for entry in stream[start:end]} == set(datasets.split())
        start = end
    assert start == len(stream)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")
def test_every_published_concept_is_in_the_class_list_of_its_dataset():
    lists = json.loads(gzip.decompress((PUBLISHED.parent / "class_lists.json.gz").read_bytes()))
    prefix = {entry.handle: entry.info_prefix for entry in registry.benchmark()}
    known = {Concept(prefix[handle], name) for handle, facts in lists.items() for name in facts["classnames"] or ()}
    listless = {prefix[handle] for handle, facts in lists.items() if not facts["classnames"]}
    stream = _resolved(PUBLISHED / "random_sequence_1.json.gz")
    assert {concept for concept in stream if concept.dataset not in listless} <= known


def _resolved(path):
    known = registry.by_name(registry.benchmark())
    return [Concept(known[dataset].info_prefix, name) for dataset, name in read_stream(path)]
