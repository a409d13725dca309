"""Commands on what comes in: datasets of the benchmark, sources by kind, the quarantine."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_catalog import catalog, decisions
from data_catalog.shards import ingest
from data_catalog.sources.base import RawDataset
from data_catalog.sources.fomo_in_flux import FomoInFlux
from flows import cli_data
from flows.cli import app
from flows.ingest import IngestConfig, ingest_sources, load
from tests.data_catalog.conftest import encoded, tiny_benchmark  # noqa: F401
from tests.data_catalog.test_inspection import Folder, source  # noqa: F401


def run(*arguments):
    """The JSON a command prints; its own error if it fails."""
    result = CliRunner().invoke(app, [*arguments, "--json"])
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture
def recorded(source):  # noqa: F811
    """A catalog with one dataset of which two icons and one page were refused."""
    for name in ("a.png", "b.png"):
        Path(source.data, name).write_bytes(encoded(1, size=2))
    Path(source.data, "page.jpg").write_text("<html>")
    catalog.record_ingest([ingest(source, source.scan()[0])], [])
    return source


def test_datasets_lists_the_benchmark_and_filters_it():
    assert len(run("datasets")) == 67
    rows = run("datasets", "--role", "retention", "--kind", "retrieval")
    assert [row["info_prefix"] for row in rows] == ["FLICKR30K", "MSCOCO"] and rows[0]["catalog"] is None


def test_quarantine_lists_codes_and_what_may_be_released(recorded):
    rows = run("quarantine", "list")
    assert {(row["code"], row["releasable"]) for row in rows} == {("absurd_size", True), ("not_an_image", False)}
    assert len(run("quarantine", "list", "--code", "absurd_size")) == 2


def test_released_samples_come_in_with_the_next_ingest(recorded):
    decision = run("quarantine", "release", "--code", "absurd_size", "--reason", "icons")
    assert decision["rule"] == "--code absurd_size" and len(decisions.released()) == 2
    catalog.record_ingest([ingest(recorded, recorded.scan()[0])], [])
    assert [row["code"] for row in run("quarantine", "list")] == ["not_an_image"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--code", "not_an_image"), "repair it"),
        (("--code", "nonsense"), "is no code of the quarantine"),
        (("--code", "empty"), "nothing is refused as empty"),
        (("--sample", "ALL/train/0.png"), "not in quarantine: ALL/train/0.png"),
        ((), "either --sample ID"),
    ],
)
def test_what_cannot_be_released_is_an_error_that_helps(recorded, arguments, message):
    with pytest.raises(ValueError, match=message):
        run("quarantine", "release", *arguments, "--reason", "because")


def test_a_source_can_be_given_by_kind_and_options():
    config = cli_data._one_source(
        "fomo-in-flux", {"data": "/d", "check": "index"} | cli_data._settings(["resized=true"])
    )
    assert isinstance(config, IngestConfig)
    assert (config.sources[0].check, config.sources[0].resized) == ("index", True)


def test_an_unknown_kind_or_setting_names_what_there_is():
    with pytest.raises(ValueError, match="neither a file nor a valid source"):
        run("ingest", "fomo-in-fluxx", "--data", "/d")
    with pytest.raises(ValueError, match="no key=value"):
        run("ingest", "fomo-in-flux", "--set", "resized")


def test_datasets_asked_for_must_be_whole(tiny_benchmark):  # noqa: F811
    (tiny_benchmark / "SCENES.tar").unlink()
    with pytest.raises(ValueError, match="SCENES is left out"):
        run("ingest", "fomo-in-flux", "--data", str(tiny_benchmark), "--datasets", "SHAPES,SCENES")


def test_a_file_may_hold_sources_alone(tmp_path):
    path = tmp_path / "sources.yaml"
    path.write_text("sources: [{kind: fomo_in_flux, data: /d}]")
    assert isinstance(load(path), IngestConfig)
    path.write_text("sources: [{kind: fomo_in_flux}]")
    with pytest.raises(ValueError, match=r"sources\.yaml is not a valid list of sources:\n.*data"):
        load(path)


@pytest.mark.parametrize("other", ["MINE", "mine"])
def test_one_dataset_in_two_sources_is_an_error_that_names_both(monkeypatch, other):
    def scan(of, retry):
        return [RawDataset(source=of.name, dataset={"a": "MINE", "b": other}[of.name], digest=f"sha256:{0:064}")]

    monkeypatch.setattr("flows.ingest.pieces.scan", scan)
    sources = [FomoInFlux(name=name, data="/d") for name in ("a", "b")]
    with pytest.raises(ValueError, match=f"{other} is in the sources 'a' and 'b'"):
        ingest_sources(sources, [])
    with pytest.raises(ValueError, match="sources a and A have one name"):
        ingest_sources([FomoInFlux(name=name, data="/d") for name in ("a", "A")], [])
