"""Which of its texts an image is trained with."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from data_catalog import store
from data_catalog.caption_rows import (
    CAPTION_ROWS,
    SCORES,
    CaptionRef,
    CaptionScores,
    Origin,
    Texts,
    caption_rows,
    given_rows,
)
from data_catalog.captions import CaptionPolicy, Template, caption, training_texts
from data_catalog.shards import SAMPLES as SCHEMA
from data_catalog.shards import DatasetFacts, DatasetRef, with_facts

GIVEN = [  # default, synthetic, merged of five images
    (["d0", "d1"], None, ["m"]),
    (None, ["s"], ["m0", "m1", "m2"]),
    (None, ["a photo that provides detailed real-world knowledge"], ["shows real-world knowledge"]),
    (None, None, None),
    (None, None, ["a test image"]),
]
WEIGHTED = {"kind": "weighted", "weights": {"template": 0.2, "synthetic_merged": 0.8}}


@pytest.fixture
def dataset():
    rows = [
        dict.fromkeys(SCHEMA.names)
        | {"id": f"D/{split}/{i}", "split": split, "concept": "cat", "default_caption": default,
           "synthetic_caption": synthetic, "synthetic_merged_caption": merged}
        for i, (default, synthetic, merged) in enumerate(GIVEN) for split in ["test" if i == 4 else "train"]
    ]  # fmt: skip
    facts = DatasetFacts(name="D", kind="classification", prompt_template="a {}", classnames=("cat",))
    table = with_facts(pa.Table.from_pylist(rows, SCHEMA), facts)
    return DatasetRef(digest=store.write_table(table), name="D", samples={"train": 4, "test": 1}, kind="classification")


@pytest.fixture
def template(dataset):
    return caption(dataset, Template())


def written(dataset, *texts):
    """A captioner's texts: (row of the dataset, text, whether it is a fallback)."""
    rows, said, fallback = zip(*texts, strict=True)
    part = Texts("captioner", Origin("captioner:x"), pa.array(rows).to_numpy(), pa.array(said),
                 pa.array(fallback).to_numpy(zero_copy_only=False))  # fmt: skip
    ids = store.read_table(dataset.digest)["id"]
    digest = store.write_table(caption_rows(ids, [part]))
    return CaptionRef(digest=digest, dataset=dataset.digest, name="D", captioner="captioner:x")


def scored(dataset, captions, *scores):
    """CLIP scores of captions (None: of those that came along), row by row."""
    table = store.read_table(captions.digest) if captions else given_rows(dataset)
    columns = [table["sample"], table["position"], pa.array(scores, pa.float32()), table["kind"]]
    digest = store.write_table(pa.table(columns, schema=SCORES))
    of = captions.digest if captions else dataset.digest
    return CaptionScores(digest=digest, dataset=dataset.digest, captions=of, name="D", checkpoint="sha256:" + "0" * 64)


def texts(dataset, captions, scores=(), **policy):
    return training_texts(dataset, captions, CaptionPolicy(**policy), scores)


def test_the_benchmarks_rule_is_the_default(dataset, template):
    table = texts(dataset, [template])
    assert table["texts"].to_pylist() == [["d0", "d1"], ["m0", "m1", "m2"], GIVEN[2][2], ["a cat"], ["a test image"]]
    assert table["weights"].null_count == table["score"].null_count == 5
    assert table["captioners"].to_pylist()[2:4] == [["given"], ["template"]]
    assert table["kinds"].to_pylist()[1:3] == [["synthetic_merged"] * 3, ["synthetic_merged"]]


def test_an_image_without_text_has_none(dataset):
    assert texts(dataset, [])["texts"].to_pylist()[3] is None


def test_captions_of_other_datasets_do_not_matter(dataset, template):
    other = template.model_copy(update={"dataset": "sha256:" + "1" * 64, "digest": "sha256:" + "2" * 64})
    assert texts(dataset, [template, other]) == texts(dataset, [template])


def test_the_first_text_alone(dataset, template):
    assert [item[0] for item in texts(dataset, [template], choice={"kind": "first"})["texts"].to_pylist()][:2] == [
        "d0",
        "m0",
    ]


def test_weights_are_shared_by_the_texts_of_a_kind(dataset, template):
    table = texts(dataset, [template], choice=WEIGHTED)
    assert table["texts"].to_pylist()[1] == ["a cat", "m0", "m1", "m2"]
    assert table["weights"].to_pylist()[1] == pytest.approx([0.2, *[0.8 / 3] * 3])
    assert table["weights"].to_pylist()[3] == [1]  # no merged caption: its share goes to the template


def test_texts_of_the_fallback_list_share_evenly_beside_weights(dataset):
    choice = {"kind": "weighted", "weights": {"default": 0.5, "synthetic": 0.5}}
    table = texts(dataset, [], choice=choice, otherwise=("synthetic_merged",), filter={"leaks": "drop"})
    assert table["weights"].to_pylist() == [[0.5, 0.5], [1], [1], None, [1]]
    assert table["texts"].to_pylist()[2] == GIVEN[2][2]  # taken unfiltered


def test_a_weight_of_zero_is_a_kind_left_out(dataset, template):
    choice = {"kind": "weighted", "weights": {"template": 1, "synthetic_merged": 0}}
    assert texts(dataset, [template], choice=choice)["texts"].to_pylist() == [["a cat"]] * 5


def test_filters_drop_and_the_fallback_list_steps_in(dataset, template):
    fit = {"leaks": "drop", "max_words": 8, "min_words": 1}
    prefer = ("synthetic_merged", "synthetic")
    assert texts(dataset, [template], prefer=prefer, filter=fit)["texts"].to_pylist()[2] is None
    table = texts(dataset, [template], prefer=prefer, filter=fit, otherwise=("template",))
    assert table["texts"].to_pylist() == [["m"], ["m0", "m1", "m2"], ["a cat"], ["a cat"], ["a test image"]]


def test_limits_on_words_hold_for_what_came_along_and_for_what_was_written(dataset):
    said = written(dataset, (0, "one two three", False), (1, "one", False))
    table = texts(dataset, [said], prefer=("captioner", "synthetic_merged"), filter={"min_words": 2, "max_words": 3})
    assert table["texts"].to_pylist() == [["one two three"], None, ["shows real-world knowledge"], None, GIVEN[4][2]]


def test_fallbacks_can_be_dropped(dataset):
    said = written(dataset, (0, "seen", False), (1, "stands in", True))
    table = texts(dataset, [said], prefer=("captioner",), filter={"fallbacks": "drop"})
    assert table["texts"].to_pylist()[:2] == [["seen"], None]


def test_the_best_is_chosen_among_all_kinds(dataset):
    said = written(dataset, *[(row, f"w{row}", False) for row in range(5)])
    given = scored(dataset, None, 0.1, 0.2, 0.9, 0.0, 0.3, 0.5, 0.4, 0.1, 0.1, 0.6)
    own = scored(dataset, said, 0.5, 0.45, 0.3, 0.2, 0.1)
    prefer = ("default", "synthetic_merged", "captioner")
    table = texts(dataset, [said], [given, own], choice={"kind": "best"}, prefer=prefer)
    assert table["texts"].to_pylist() == [["m"], ["m1"], ["w2"], ["w3"], ["a test image"]]
    assert table["score"].to_pylist() == pytest.approx([0.9, 0.5, 0.3, 0.2, 0.6])


def test_low_scores_can_be_dropped(dataset):
    said = written(dataset, (0, "bad", False), (0, "good", False), (1, "bad", False))
    scores = scored(dataset, said, 0.1, 0.3, 0.1)
    table = texts(dataset, [said], [scores], prefer=("captioner",), filter={"min_clip_score": 0.2})
    assert table["texts"].to_pylist()[:2] == [["good"], None]
    assert table["score"].to_pylist()[:2] == pytest.approx([0.3, None])


def test_missing_scores_are_counted(dataset):
    said = written(dataset, (0, "a", False), (1, "b", False))
    with pytest.raises(ValueError, match=r"2 of the 2 texts of kind `captioner` of D have none; score"):
        texts(dataset, [said], choice={"kind": "best"}, prefer=("captioner",))
    with pytest.raises(ValueError, match=r"1 of the 2 texts of kind `captioner`"):
        texts(dataset, [said], [scored(dataset, said, 0.5, None)], choice={"kind": "best"}, prefer=("captioner",))


def test_kinds_that_nobody_wrote_are_named(dataset, template):
    with pytest.raises(ValueError, match=r"names fusion, but no such captions of D were given, only template"):
        texts(dataset, [template], prefer=("fusion", "default"))
    with pytest.raises(ValueError, match=r"names captioner, .* only none"):
        texts(dataset, [], choice={"kind": "weighted", "weights": {"captioner": 1}})


@pytest.mark.parametrize("policy", [
    {"prefer": ("merged",)},
    {"choice": {"kind": "weighted", "weights": {"template": 0}}},
    {"choice": WEIGHTED, "prefer": ("default",)},
    {"filter": {"min_words": 9, "max_words": 3}},
])  # fmt: skip
def test_policies_that_make_no_sense_are_refused(policy):
    with pytest.raises(ValidationError):
        CaptionPolicy(**policy)


def test_no_captions_at_all_is_a_table_of_the_same_shape(dataset):
    empty = store.write_table(CAPTION_ROWS.empty_table())
    reference = CaptionRef(digest=empty, dataset=dataset.digest, name="D", captioner="template")
    assert texts(dataset, [reference])["texts"].null_count == 1
