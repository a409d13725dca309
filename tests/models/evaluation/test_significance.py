"""Paired tests of two checkpoints: few images, sets that only look alike, and pairs picked from many."""

import numpy as np
import pyarrow as pa
import pytest

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models.evaluation.compare import against, contenders
from models.evaluation.metrics import CLASSES, scores_of
from models.evaluation.record import store_record
from models.evaluation.scores import EvalReport
from models.evaluation.significance import compare

SET = {"hashes": [b"1", b"2"]}


def few(name, hits):
    """A report of one classification set whose images hit as told."""
    table = pa.table(
        {"rank": [int(not hit) for hit in hits], "target": [0] * len(hits), "confidence": [0.5] * len(hits)}
    )
    return scored(name, table.replace_schema_metadata({CLASSES: "4"}))


def scored(name, table):
    scores = scores_of(name, "classification", table)
    return EvalReport(checkpoint="sha256:" + "0" * 64, scores=scores, outcomes={name: store.write_table(table)})


@pytest.mark.parametrize("images, p", [(1, 1), (3, 0.25), (6, 2 / 2**6)])
def test_a_summary_of_few_images_is_as_unsure_as_they_are(images, p):
    found = compare(few("a", [True] * images), few("a", [False] * images), ["a"], ["a"])
    assert [row.p for row in (*found.datasets, *found.summaries)] == pytest.approx([p] * 4, abs=0.01)


def test_the_pair_that_looks_best_of_many_has_to_be_that_much_better():
    better, worse = few("a", [True] * 8), few("a", [True] * 2 + [False] * 6)
    alone, picked = (compare(better, worse, ["a"], ["a"], pairs=pairs) for pairs in (1, 5))
    assert [row.adjusted_p for row in picked.summaries] == [5 * row.adjusted_p for row in alone.summaries]
    assert picked.datasets == alone.datasets


def eval_set(hashes, ids=None, texts="a", kind="classification"):
    ids = ids or [str(i) for i in range(len(hashes))]
    images = pa.table({"id": ids, "hash": pa.array(hashes, pa.binary())})
    digest, texts = store.write_table(images), store.digest_of(texts.encode())
    return EvalSet(digest=digest, name="a", kind=kind, texts=texts, samples=len(hashes))


@pytest.mark.parametrize("first, second, equal", [
    (SET, {"hashes": [b"1", b"2"], "ids": ["x", "y"]}, True),
    (SET, {"hashes": [b"1", b"3"]}, False),
    (SET, {"hashes": [b"1", b"2"], "texts": "other prompts"}, True),
    ({"hashes": [None, None]}, {"hashes": [None, b"2"]}, True),
    ({"hashes": [None, None]}, {"hashes": [None, None], "ids": ["0", "7"]}, False),
    (SET | {"kind": "retrieval"}, SET | {"kind": "retrieval", "texts": "others"}, False),
])  # fmt: skip
def test_images_with_equal_classes_are_told_apart_by_their_sets(first, second, equal):
    same, sets = few("a", [True, False]), ((eval_set(**first),), (eval_set(**second),))
    if equal:
        assert compare(same, same, ["a"], ["a"], sets=sets).summaries[0].difference == 0
        return
    with pytest.raises(ValueError, match="different images or texts of a"):
        compare(same, same, ["a"], ["a"], sets=sets)


def test_ranks_among_other_classes_are_not_paired():
    report = few("a", [True, False])
    table = store.read_table(report.outcomes["a"])
    more = scored("a", table.replace_schema_metadata({CLASSES: "5"}))
    with pytest.raises(ValueError, match="other classes"):
        compare(report, more, ["a"], ["a"])


def test_p_values_of_summaries_are_uniform_where_nothing_differs():
    random = np.random.default_rng(0)
    found = [
        compare(few(str(i), random.random(30) < 0.5), few(str(i), random.random(30) < 0.5), [str(i)], [str(i)])
        for i in range(60)
    ]
    p = np.array([[row.p for row in comparison.summaries] for comparison in found])
    assert ((p < 0.2).mean(0) > 0.05).all() and ((p < 0.2).mean(0) < 0.37).all()


def test_recipes_scored_on_other_subsets_are_not_compared(rich):
    names = [set_.name for set_ in rich.eval_sets]
    other = [
        set_.model_copy(update={"digest": eval_set([bytes([i]) for i in range(set_.samples)]).digest})
        for set_ in rich.eval_sets
    ]
    for seed, sets in enumerate((rich.eval_sets, other)):
        changed = {"name": "subsets", "seed": seed, "recipes": rich.recipes[:1], "eval_sets": tuple(sets)}
        store_record(rich.model_copy(update=changed))
    (verdict,) = against(contenders(["subsets-seed0", "subsets-seed1"]), "subsets-seed0")
    assert verdict.found is None and "different images" in verdict.reason and names[0] in verdict.reason


def test_more_recipes_ask_more_of_the_leader(rich):
    store_record(rich.model_copy(update={"name": "many"}))
    names = [f"many-seed0/{recipe.name}" for recipe in rich.recipes]
    alone = against(contenders([names[2], names[0]]), "replay + merge")[0].found.summaries[-1]
    among = against(contenders(names), "replay + merge")[0].found.summaries[-1]
    assert (among.p, among.adjusted_p) == (alone.p, min(1, 3 * alone.adjusted_p))
