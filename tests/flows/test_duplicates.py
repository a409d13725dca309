"""The search for duplicates as a flow and as a command."""

import contextlib
import json

import pytest
import yaml
from typer.testing import CliRunner

from data_catalog.duplicates import DuplicateSearch
from flows import cli_duplicates
from flows.duplicates import duplicates
from tasks.journal import ALWAYS, journal
from tests.flows.conftest import raw_experiment

KINDS = ("exact", "perceptual", "embedding")


@pytest.fixture
def command(prefect_backend, tmp_path, monkeypatch):
    """Runs the command on the tiny experiment; returns (exit code, stdout)."""
    monkeypatch.setattr("flows.server.api", contextlib.nullcontext)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw_experiment()))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli_duplicates.app, [str(tmp_path / "tiny.yaml"), *arguments])
        return result.exit_code, result.stdout

    return run


def test_every_kind_is_searched_once_and_a_new_threshold_repeats_its_own_stage_alone(prefect_backend, experiment):
    hashed, embedded = duplicates(experiment, DuplicateSearch(kinds=KINDS))
    assert (*hashed.groups, *embedded.groups) == KINDS
    assert hashed.compared["exact"] == embedded.compared["embedding"] > 1000
    with journal() as stages:
        stricter = duplicates(experiment, DuplicateSearch(kinds=KINDS, similarity=0.999))
    ran = [stage.stage for stage in stages if not stage.reused and stage.reason != ALWAYS]
    assert ran == ["find_near_duplicates"] and stricter[0] == hashed


def test_the_command_prints_one_document(command):
    code, out = command("--dataset", "SHAPES", "--dataset", "COUNTS", "--json")
    document = json.loads(out)
    assert code == 0 and [row["kind"] for row in document["kinds"]] == ["exact", "perceptual"]
    assert all(row["samples"] >= 2 * row["groups"] for row in document["kinds"])
    assert set(document) == {"tables", "kinds", "overlaps", "examples", "stages"}


def test_the_command_prints_tables(command):
    code, out = command("--dataset", "SHAPES", "--distance", "0")
    assert code == 0 and "duplicates" in out and "perceptual" in out
