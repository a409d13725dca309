"""What a captioner wrote, row by row, and what came with the data."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data_catalog import store
from data_catalog.caption_rows import CAPTION_ROWS, count_words, given_rows, leaks, quality
from data_catalog.captions import Template, caption
from data_catalog.json_files import read_json
from data_catalog.metadata import texts_of

PUBLISHED = Path(__file__).parents[3] / "shared/fomo_in_flux/captions"


def rows(dataset, captioner=None):
    return store.read_table(caption(dataset, captioner or Template()).digest).to_pylist()


def test_a_row_says_where_its_text_comes_from(datasets):
    first = next(row for row in rows(datasets["SHAPES"]) if row["sample"] == "SHAPES/train/star/0.png")
    assert first == {
        "sample": "SHAPES/train/star/0.png", "position": 0, "kind": "template", "text": "A photo of a star.",
        "captioner": "template", "model": None, "prompt": "A photo of a {}.", "settings": "{}", "words": 5,
        "leak": False, "fallback": False,
    }  # fmt: skip


def test_rows_stand_in_the_order_of_the_samples(datasets):
    told = [row["sample"] for row in rows(datasets["SHAPES"])]
    assert told == store.read_table(datasets["SHAPES"].digest)["id"].to_pylist()


def test_a_captioner_may_keep_to_images_without_text_and_to_some_splits(datasets):
    few = rows(datasets["SHAPES"], Template(images="without_text", splits=("train",)))
    assert [row["sample"] for row in few] == ["SHAPES/train/star/0.png"]


def test_where_there_is_no_class_the_template_says_nothing(datasets):
    reference = caption(datasets["SCENES"], Template())
    table = store.read_table(reference.digest)
    assert table.num_rows == 0 and table.schema.equals(CAPTION_ROWS)


@pytest.mark.parametrize("name", ["SHAPES", "SCENES", "BROAD"])
def test_captioning_again_gives_the_same_bytes(datasets, name):
    assert caption(datasets[name], Template()) == caption(datasets[name], Template())


def test_what_came_along_counts_by_kind(datasets):
    shapes = given_rows(datasets["SHAPES"]).to_pylist()
    square = [(r["kind"], r["position"], r["text"]) for r in shapes if r["sample"] == "SHAPES/train/square/0.png"]
    assert square == [("synthetic", 0, "s"), ("synthetic", 1, "t"), ("synthetic", 2, "u"),
                      ("synthetic_merged", 3, "a square")]  # fmt: skip
    assert {row["captioner"] for row in shapes} == {"given"}


def test_words_are_what_white_space_parts():
    assert count_words(pa.array([" a photo  of\ta cat ", "one", "zwei\u00a0drei"])).to_pylist() == [5, 1, 2]


@pytest.mark.parametrize("text, leaks_out", [
    ("A photo of a diagram provides detailed real-world knowledge.", True),
    ("It exhibits nice sentence structure.", True),
    ("The cat in Sentence 2 sleeps.", True),
    ("I'm sorry, but I cannot merge these.", True),
    ("As an AI language model I see no image.", True),
    ("As an airplane descends, a dark shadow can be seen.", False),
    ("A T-shirt with the sentence \"keep calm\" on it.", False),
    ("A classic car in a class of its own.", False),
])  # fmt: skip
def test_leaks_are_what_only_an_instruction_says(text, leaks_out):
    assert leaks(pa.array([text])).to_pylist() == [leaks_out]


@pytest.fixture(scope="module")
def published():
    """The merged captions of the shared files, one per image, resized copies left out where both are here."""
    names = {path.name for path in PUBLISHED.glob("*.json.gz")}
    base = [path for path in sorted(PUBLISHED.glob("*.json.gz")) if not path.name.endswith("_224.json.gz")
            or path.name.replace("_224", "") not in names]  # fmt: skip
    texts = [texts_of(entry["synthetic_merged_caption"]) for path in base for entry in read_json(path).values()]
    return pa.array([item[0] for item in texts if item])


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published captions are not here")
def test_the_published_captions_have_the_lengths_that_are_reported_of_all(published):
    words, _ = quality(published)
    assert pc.mean(words).as_py() == pytest.approx(17.3, abs=0.5)
    assert pc.quantile(words, 0.99)[0].as_py() == pytest.approx(31, abs=2)
    assert pc.max(words).as_py() <= 56


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published captions are not here")
def test_the_published_captions_leak_their_instruction(published):
    named = pc.sum(pc.match_substring(published, "real-world knowledge", ignore_case=True)).as_py()
    found = pc.sum(leaks(published)).as_py()
    assert 0 < named <= 0.027 * 166_331  # what is reported of all; the shared files are a part of them
    assert named < found < 2 * named  # further phrases of the same instruction


def test_settings_are_json(datasets):
    assert all(json.loads(row["settings"]) == {} for row in rows(datasets["BROAD"]))
