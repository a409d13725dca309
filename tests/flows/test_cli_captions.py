"""The commands on captions."""

import json

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from data_catalog import catalog, store
from data_catalog.captions import Template, caption
from data_catalog.shards import SAMPLES, DatasetFacts, DatasetRef, with_facts
from flows.cli_captions import app


@pytest.fixture(autouse=True)
def captioned():
    merged = ["a cat on a mat", "a photo that provides detailed real-world knowledge"]
    rows = [dict.fromkeys(SAMPLES.names) | {
        "id": f"PETS/train/{i}", "dataset": "PETS", "split": "train", "concept": "cat", "target": 0,
        "shard": "pets/1.png", "offset": 0, "length": 1, "synthetic_merged_caption": [text],
    } for i, text in enumerate(merged)]  # fmt: skip
    facts = DatasetFacts(name="PETS", kind="classification", prompt_template="a {}", classnames=("cat",))
    digest = store.write_table(with_facts(pa.Table.from_pylist(rows, SAMPLES), facts))
    dataset = DatasetRef(digest=digest, name="PETS", samples={"train": 2}, kind="classification")
    catalog.record_ingest([dataset], [caption(dataset, Template())])


def said(*arguments):
    result = CliRunner().invoke(app, ["captions", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_stats_count_leaks_by_kind():
    document = json.loads(said("stats", "PETS", "--json"))
    assert {row["kind"]: (row["texts"], row["leaks"]) for row in document["kinds"]} == {
        "synthetic_merged": (2, 1), "template": (2, 0)}  # fmt: skip
    assert "captions of PETS" in said("stats", "PETS")


def test_suspicious_captions_can_be_seen_alone():
    [row] = json.loads(said("show", "PETS", "--suspicious", "--json"))
    assert (row["sample"], row["leak"]) == ("PETS/train/1", True)
    assert said("show", "PETS", "--kind", "fusion") == "none\n"
