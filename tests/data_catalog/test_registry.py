"""The registry of the benchmark's datasets."""

import gzip
import json
from pathlib import Path

import pytest

from data_catalog.registry import benchmark, by_name, described_in

REFERENCE = Path(__file__).parents[3] / "shared/reference/fomo_in_flux_datasets.json"
CLASS_LISTS = Path(__file__).parents[3] / "shared/fomo_in_flux/class_lists.json.gz"


def test_the_benchmark_has_41_adaptation_and_22_retention_sets():
    roles = [dataset.role for dataset in benchmark()]
    assert (roles.count("adaptation"), roles.count("retention"), roles.count("extra")) == (41, 22, 4)


def test_every_dataset_answers_to_its_aliases():
    known = by_name(benchmark())
    assert known["EUROSAT"] is known["EuroSAT"] is known["eurosat"]
    assert known["iNATURALIST2021"].split_tokens == {"train": "train_mini", "test": "val"}


def test_a_listing_beside_the_data_describes_other_datasets(tmp_path):
    row = {
        "name": "MINE",
        "kind": "classification",
        "role": "adaptation",
        "prompt_template": "A {}.",
        "classes": ["a", "b"],
    }
    (tmp_path / "datasets.json").write_text(json.dumps([row]))
    assert described_in(tmp_path / "datasets.json")[0].classes == 2


def test_a_wrong_listing_names_the_dataset(tmp_path):
    (tmp_path / "datasets.json").write_text(json.dumps([{"name": "MINE", "kind": "sculpture"}]))
    with pytest.raises(ValueError, match=r"(?s)dataset 'MINE' in .*classification"):
        described_in(tmp_path / "datasets.json")


def total(of, split=None, role="adaptation"):
    return sum(d.samples.get(split, 0) if split else getattr(d, of) or 0 for d in benchmark() if d.role == role)


def test_the_totals_of_the_benchmark_come_out():
    adaptation = (total("samples", "train"), total("samples", "test"))
    retention = (total("samples", "train", "retention"), total("samples", "test", "retention"))
    assert (adaptation, retention) == ((1_759_790, 453_062), (462_171, 314_419))
    assert adaptation[0] + adaptation[1] + retention[1] == 2_527_271
    assert (total("classes_in_table"), total("classes_in_table", role="retention")) == (18_392, 4_653)
    assert total("classes_in_streams") == 18_381
    assert sum(len(d.metadata_files) for d in benchmark()) == 189


def test_the_reference_scores_come_out():
    means = {role: [d.zero_shot for d in benchmark() if d.role == role] for role in ("adaptation", "retention")}
    accumulation, retention = (sum(values) / len(values) for values in means.values())
    assert (round(accumulation, 5), round(retention, 5)) == (0.38473, 0.67927)


def test_time_groups_have_one_year_each_and_grow():
    groups = {(d.time_group, d.year) for d in benchmark() if d.role == "adaptation"}
    assert len(groups) == 15 and [year for _, year in sorted(groups)] == sorted(year for _, year in groups)


def test_names_that_differ_in_case_alone_are_refused(tmp_path):
    rows = [{"name": name, "kind": "retrieval"} for name in ("Mine", "MINE")]
    (tmp_path / "datasets.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="Mine and MINE more than once"):
        described_in(tmp_path / "datasets.json")


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference is not here")
def test_every_fact_is_that_of_the_reference():
    for row in json.loads(REFERENCE.read_text())["datasets"]:
        known = by_name(benchmark())[row["handle"]]
        assert all(by_name(benchmark())[name] is known for name in (*row["accepted_names"], row["stream_name"]))
        assert known.samples.get("train", None) == row["train_samples"]
        assert (known.classes, known.prompt_template) == (row["num_classes"]["prompt_list"], row["prompt_template"])
        assert (known.year, known.has_resized) == (row["time_group_year_inferred"], row["resized_224_variant_flag"])


@pytest.mark.skipif(not CLASS_LISTS.is_file(), reason="the published class lists are not here")
def test_class_counts_are_those_of_the_published_lists():
    lists = json.loads(gzip.decompress(CLASS_LISTS.read_bytes()))
    assert {d.handle: d.classes for d in benchmark()} == {
        handle: len(content["classnames"] or []) for handle, content in lists.items()
    }
    assert sorted(lists["imagenet"]["classnames"], key=str.casefold) == lists["imagenet_v2"]["classnames"]
