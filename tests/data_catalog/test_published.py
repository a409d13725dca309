"""The checks of the benchmark's reference (sections 3.3 and 12) on every published file."""

import gzip
import json
from collections import Counter
from functools import lru_cache
from itertools import accumulate, groupby
from pathlib import Path

import pytest

from data_catalog import metadata_tables
from data_catalog.metadata import CAPTIONS, check_metadata, fill
from data_catalog.registry import benchmark, by_name

PUBLISHED = Path(__file__).parents[3] / "shared/fomo_in_flux"
STREAMS = sorted((PUBLISHED / "streams").glob("*_[0-9].json.gz"))
FILES = sorted((PUBLISHED / "captions").glob("*.json.gz"))
BOUNDARIES = [102, 202, 599, 799, 899, 3293, 5290, 5884, 6785, 7687, 9482, 9741, 12676, 17961, 18381]

pytestmark = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not here")


@lru_cache(maxsize=64)
def content(path):
    return json.loads(gzip.decompress(path.read_bytes()))


@lru_cache(maxsize=1)
def names():
    return by_name(benchmark())


@lru_cache(maxsize=1)
def class_lists():
    lists = content(PUBLISHED / "class_lists.json.gz")
    return {handle: tuple(each["classnames"] or ()) for handle, each in lists.items()}


def concepts(path):
    return [(names()[name], concept) for name, _, concept in (entry.partition("+++") for entry in content(path))]


def reversal(path):
    return path.with_name(path.name.replace("_sequence_", "_sequence_reverse_"))


@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_a_stream_holds_every_adaptation_concept_once(path):
    found = [(entry.info_prefix, concept) for entry, concept in concepts(path)]
    assert len(found) == len(set(found)) == 18_381
    counts = Counter(entry.info_prefix for entry, _ in concepts(path))
    assert counts == {d.info_prefix: d.classes_in_streams for d in benchmark() if d.role == "adaptation"}


def test_all_streams_hold_the_same_concepts():
    assert len(STREAMS) >= 20 and len({frozenset(content(path)) for path in STREAMS}) == 1


@pytest.mark.parametrize(
    "path", [p for p in STREAMS if reversal(p) != p and reversal(p).is_file()], ids=lambda path: path.stem
)
def test_a_reversed_stream_is_the_exact_reverse(path):
    assert content(path) == content(reversal(path))[::-1]


@pytest.mark.parametrize("path", [path for path in STREAMS if path.name.startswith("time")], ids=lambda path: path.stem)
def test_time_streams_change_group_where_the_registry_says(path):
    groups = [entry.time_group for entry, _ in concepts(path)]
    lengths = [(group, len(list(same))) for group, same in groupby(groups)]
    assert [group for group, _ in lengths] == list(range(15))
    assert list(accumulate(length for _, length in lengths)) == BOUNDARIES


def test_dataset_streams_visit_the_datasets_in_one_order():
    paths = [path for path in STREAMS if "dschunked" in path.name]
    orders = {tuple(name for name, _ in groupby(entry.info_prefix for entry, _ in concepts(path))) for path in paths}
    assert len(orders) == 1 and len(orders.pop()) == 41


@pytest.mark.parametrize("path", [*STREAMS, *(PUBLISHED / "streams").glob("debug*")], ids=lambda path: path.stem)
def test_every_class_of_a_stream_is_in_the_class_list(path):
    assert [(d.handle, name) for d, name in concepts(path) if name not in class_lists()[d.handle]] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_metadata_file_keeps_to_template_and_class_list(path):
    report = check_metadata(path)
    assert report["problems"] == [] and report["template_mismatches"] == 0
    table = metadata_tables.read_table(path)
    assert (table.num_rows, table["fault"].null_count) == (report["entries"], report["entries"])
    assert wrong_classes(path, table) == []


def wrong_classes(path, table):
    """Entries whose class is not that of the class list, or whose primer is not the filled template."""
    known = names()[path.name.rsplit("_", 2 if "_224." in path.name else 1)[0]]
    listed = class_lists()[known.handle]
    wrong = []
    for row in table.select(["classname", "target", "primer_caption"]).to_pylist():
        name, primer = row["classname"], row["primer_caption"]
        if known.kind == "classification" and listed[row["target"]] != name:
            wrong.append(row)
        if primer is not None and primer != [fill(known.prompt_template, name, known.class_name_transform)]:
            wrong.append(row)
    return wrong


@pytest.mark.parametrize("path", [path for path in FILES if "_224." in path.name], ids=lambda path: path.name)
def test_resized_copies_are_described_under_the_same_keys(path):
    base = path.with_name(path.name.replace("_224.", "."))
    prefix = f"{path.name.removesuffix('.json.gz')}/"
    keys = [metadata_tables.read_table(each)["key"] for each in (base, path)]
    assert set(keys[0].to_pylist()) == set(metadata_tables.without_prefix(keys[1], prefix).to_pylist())


def test_the_manifest_agrees_with_what_is_read():
    manifest = json.loads((PUBLISHED / "MANIFEST.json").read_text())
    counted = {Path(row["file"]).name: row["entries"] for row in manifest["captions"]}
    assert {path.name: metadata_tables.read_table(path).num_rows for path in FILES} == counted


def test_captions_are_null_or_lists_of_texts():
    table = metadata_tables.read_table(PUBLISHED / "captions/MSCOCO_test.json.gz")
    assert {len(texts) for texts in table["default_caption"].to_pylist()} == {5, 6}
    assert table["classname"].null_count == table.num_rows
    assert set(CAPTIONS) <= set(table.column_names)
