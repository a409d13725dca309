"""Datasets in pieces, as several workers share them: here on threads, which see the same files."""

import os
from pathlib import Path

import pytest

from data_catalog.sources.synthetic import Synthetic
from flows import pieces
from flows.experiment import parse
from tasks.journal import collecting
from tests.flows.conftest import prepared_alone, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")


@pytest.fixture
def prepared(monkeypatch, tmp_path):
    """Prepares the tiny experiment with duplicates by embedding in a home; (what came of it, its stages)."""
    search = {"kinds": ["exact", "embedding"], "similarity": 0.995}
    raw = raw_experiment(stream=raw_experiment()["stream"] | {"duplicates": {"search": search}})

    def run(home, images):
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / home))
        made = Synthetic(**raw["sources"][0])
        if not Path(made.root()).exists():
            made.listings()
            for path in Path(made.root()).rglob("*"):  # what is new to the second is not shared
                os.utime(path, (1e9, 1e9))
        monkeypatch.setattr(pieces, "images_of_a_task", lambda: images)
        with collecting() as told:
            found = prepared_alone(parse(raw, "test"))
        return found, [record.stage for record in told]

    return run


def test_pieces_change_nothing_and_are_made_once(prepared):
    whole, stages = prepared("alone", None)
    assert "inspect_images" not in stages and "embed_rows" not in stages
    shared, stages = prepared("shared", 50)
    assert stages.count("inspect_images") >= 7 and stages.count("embed_rows") >= 7
    assert (shared.plan, shared.exclusions, shared.eval_sets) == (whole.plan, whole.exclusions, whole.eval_sets)
    again, stages = prepared("shared", 20)
    assert "inspect_images" not in stages and "embed_rows" not in stages and again.plan == shared.plan
