"""What a stream file would become, by its names alone."""

from pathlib import Path

import pytest

from data_catalog.cutting import chunks
from data_catalog.mixture import Mixture
from data_catalog.outline import outline

PUBLISHED = Path(__file__).parents[3] / "shared/fomo_in_flux/streams"
CHRONOLOGICAL = PUBLISHED / "time_incremental_dschunked_1.json.gz"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")


@needs_published
def test_the_outline_of_a_published_stream():
    steps = outline(CHRONOLOGICAL, 200, 512, Mixture())
    assert [step["concepts"] for step in steps] == chunks(18381, 200)
    assert steps[0]["datasets"] == ["FLOWERS102"] and steps[0]["batch"]["update"] == 259
    assert steps[1]["batch"] == {"pretraining": 169, "update": 175, "buffer": 168}


@needs_published
def test_a_chronological_stream_has_a_step_per_dataset_or_year():
    by_dataset = outline(CHRONOLOGICAL, None, 512, Mixture(), "by_dataset")
    assert len(by_dataset) == 41 and all(len(step["datasets"]) == 1 for step in by_dataset)
    by_year = outline(CHRONOLOGICAL, 15, 512, Mixture(), "by_year")
    assert [step["concepts"] for step in by_year][:6] == [102, 100, 397, 200, 100, 2394]


@needs_published
def test_a_random_stream_has_none():
    with pytest.raises(ValueError, match="comes back to it"):
        outline(PUBLISHED / "random_sequence_1.json.gz", None, 512, Mixture(), "by_year")


@pytest.mark.parametrize("entries, message", [
    ('["NOBODY+++x"]', "dataset 'NOBODY', which nobody knows"),
    ('["DTD+++x", "dtd+++x"]', "a concept twice under two names"),
])  # fmt: skip
def test_wrong_entries_are_errors(tmp_path, entries, message):
    (tmp_path / "stream.json").write_text(entries)
    with pytest.raises(ValueError, match=message):
        outline(tmp_path / "stream.json", 1, 512, Mixture())
