"""The registry of the benchmark's datasets."""

import json

import pytest

from data_catalog.registry import benchmark, by_name, described_in


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
