"""What the catalog knows of the captions of a dataset."""

import pyarrow as pa
import pytest

from data_catalog import catalog, store
from data_catalog.caption_overview import examples, overview, scores
from data_catalog.caption_rows import SCORES, CaptionScores
from data_catalog.captions import Template, caption

CHECKPOINT = "sha256:" + "7" * 64


@pytest.fixture
def shapes(datasets, captions):
    catalog.record_ingest(list(datasets.values()), captions)
    return datasets["SHAPES"]


def test_captions_are_counted_by_kind(shapes):
    kinds = {row["kind"]: row for row in overview("SHAPES")}
    assert (kinds["template"]["texts"], kinds["template"]["mean_words"]) == (14, 5)
    assert (kinds["synthetic"]["texts"], kinds["synthetic"]["images"]) == (12, 4)
    assert kinds["synthetic_merged"]["captioner"] == "given" and kinds["template"]["leaks"] == 0


def test_of_a_captioner_the_latest_captions_count(shapes, captions):
    catalog.record_ingest([shapes], [caption(shapes, Template(images="without_text"))])
    assert next(row["texts"] for row in overview("SHAPES") if row["kind"] == "template") == 1


def test_the_making_says_what_it_took(shapes):
    table = store.read_table(caption(shapes, Template()).digest).slice(0, 3)
    digest = store.write_table(table, stage="caption", usage={"tokens_in": 9, "cost": 0.5})
    reference = caption(shapes, Template()).model_copy(update={"digest": digest})
    catalog.record_ingest([shapes], [reference])
    assert next(row["usage"] for row in overview("SHAPES") if row["kind"] == "template")["cost"] == 0.5


def test_scores_have_their_mean(shapes):
    captions = caption(shapes, Template())
    table = store.read_table(captions.digest)
    halves = pa.array([0.25, 0.75] * 7, pa.float32())
    columns = [table["sample"], table["position"], halves, table["kind"]]
    reference = CaptionScores(
        digest=store.write_table(pa.table(columns, schema=SCORES)), dataset=shapes.digest, captions=captions.digest,
        name="SHAPES", checkpoint=CHECKPOINT,
    )  # fmt: skip
    catalog.record_scores(reference)
    [row] = scores("SHAPES")
    assert (row["kind"], row["texts"], row["mean_clip_score"]) == ("template", 14, 0.5)


def test_examples_say_where_they_come_from(shapes):
    rows = examples("SHAPES", "template", 3)
    assert rows == examples("SHAPES", "template", 3) and len(rows) == 3
    assert {row["prompt"] for row in rows} == {"A photo of a {}."}
    assert examples("SHAPES", None, 9, suspicious=True) == []


def test_a_dataset_nobody_captioned_is_named(shapes):
    with pytest.raises(ValueError, match=r"no captions of 'SHAPE', only of \['BROAD', 'SCENES', 'SHAPES'\]"):
        overview("SHAPE")
