import numpy as np
import pyarrow as pa
import pytest

from data_catalog import store
from models.evaluation.metrics import CLASSES, scores_of
from models.evaluation.scores import EvalReport, Score, summarise
from models.evaluation.significance import compare, holm
from models.evaluation.summaries import benchmark_summaries, group_summaries, replicates_of

ADAPTATION, RETENTION = ("a", "b"), ("c", "d")  # d is a retrieval set


def outcomes(dataset, accuracy, images=200, seed=0):
    random = np.random.default_rng([seed, ord(dataset)])
    rank = np.where(random.permutation(images) < accuracy * images, 0, 7)
    if dataset == "d":
        return pa.table({"image_rank": rank, "text_ranks": [[r, 9] for r in rank.tolist()]})
    target = np.arange(images) % 4
    table = pa.table({"rank": rank, "target": target, "confidence": np.full(images, 0.5, np.float32)})
    return table.replace_schema_metadata({CLASSES: "4"})


def report(seed=0, **accuracies):
    tables = {name: outcomes(name, accuracy, seed=seed) for name, accuracy in accuracies.items()}
    scores = [
        score
        for name, table in tables.items()
        for score in scores_of(name, "retrieval" if name == "d" else "classification", table)
    ]
    digests = {name: store.write_table(table) for name, table in tables.items()}
    return EvalReport(checkpoint="sha256:" + "0" * 64, scores=scores, outcomes=digests)


@pytest.fixture
def first():
    return report(a=0.4, b=0.5, c=0.7, d=0.6)


def test_summaries_are_those_of_the_step_and_lie_in_their_intervals(first):
    step = summarise(0, first, ADAPTATION, RETENTION)
    summaries = benchmark_summaries(first, ADAPTATION, RETENTION)
    for summary in summaries:
        assert summary.value == getattr(step, summary.name)
        assert summary.low < summary.value < summary.high
    assert [summary.datasets for summary in summaries] == [ADAPTATION, RETENTION, ADAPTATION + RETENTION]


def test_a_mean_of_more_sets_scatters_less(first):
    alone, both = group_summaries(first, {"alone": ["a"], "both": ["a", "b"]})
    assert both.high - both.low == pytest.approx((alone.high - alone.low) / np.sqrt(2), rel=0.15)


def test_a_group_of_one_set_has_the_interval_of_its_score(first):
    scores = {score.dataset: score for score in first.scores if score.metric in ("accuracy_top1", "recall_at_5")}
    for name, score in scores.items():
        (summary,) = group_summaries(first, {"alone": [name]})
        assert (summary.value, summary.low, summary.high) == (score.value, score.low, score.high)


def test_weights_move_the_mean_and_its_interval(first):
    weights = {"a": 3.0, "elsewhere": 2.0}
    weighted = group_summaries(first, {"g": ["a", "b"]}, weights)[0]
    assert weighted.value == pytest.approx((3 * 0.4 + 0.5) / 4)
    assert weighted.low < weighted.value < weighted.high
    assert summarise(0, first, ADAPTATION, RETENTION, weights).knowledge_accumulation == weighted.value


def test_a_set_without_weight_leaves_the_interval_to_the_others(first):
    alone, weighed = group_summaries(first, {"alone": ["a"], "weighed": ["a", "b"]}, {"b": 0.0})
    assert (weighed.value, weighed.low, weighed.high) == (alone.value, alone.low, alone.high)


@pytest.mark.parametrize("weights, message", [({"a": -1.0}, "from 0 on"), ({"a": 0, "b": 0}, "have weight 0")])
def test_weights_that_define_no_mean_are_refused(first, weights, message):
    with pytest.raises(ValueError, match=message):
        group_summaries(first, {"g": ["a", "b"]}, weights)


def test_a_set_named_twice_in_a_mean_is_refused(first):
    with pytest.raises(ValueError, match="names a set twice"):
        group_summaries(first, {"g": ["a", "a"]})
    with pytest.raises(ValueError, match="names a set twice"):
        summarise(0, first, ADAPTATION, ("c", "c"))


def test_recall_without_outcomes_has_no_interval_but_a_value(first):
    bare = first.model_copy(update={"outcomes": {}})
    assert set(replicates_of(bare, ["a", "d"])) == {"a"}
    knowledge, retention, both = benchmark_summaries(bare, ADAPTATION, RETENTION)
    assert knowledge.low is not None
    assert (retention.low, both.high) == (None, None)
    assert retention.value == pytest.approx(benchmark_summaries(first, ADAPTATION, RETENTION)[1].value)


def test_a_group_with_a_set_that_was_not_scored_is_refused(first):
    with pytest.raises(ValueError, match="group 'mine': sets x"):
        group_summaries(first, {"mine": ["a", "x"]})


def test_a_checkpoint_does_not_differ_from_itself(first):
    found = compare(first, first, ADAPTATION, RETENTION)
    assert all(row.p == row.adjusted_p == 1 and row.difference == 0 for row in found.datasets + found.summaries)


def test_a_better_checkpoint_is_told_from_an_equal_one(first):
    better = report(a=0.6, b=0.7, c=0.7, d=0.6)
    found = compare(better, first, ADAPTATION, RETENTION)
    assert {row.name: row.is_significant for row in found.datasets} == {"a": True, "b": True, "c": False, "d": False}
    by_name = {row.name: row for row in found.summaries}
    assert by_name["knowledge_accumulation"].is_significant
    assert not by_name["zero_shot_retention"].is_significant
    both = by_name["geometric_mean"]
    assert 0 < both.low < both.difference < both.high
    assert both.high - both.low < by_name["knowledge_accumulation"].high - by_name["knowledge_accumulation"].low
    assert (both.first, both.second) == tuple(
        summarise(0, scored, ADAPTATION, RETENTION).geometric_mean for scored in (better, first)
    )
    assert by_name["knowledge_accumulation"].difference == pytest.approx(0.2)


def test_a_set_without_weight_makes_no_difference_to_summaries(first):
    better = report(a=0.6, b=0.5, c=0.7, d=0.6)
    knowledge = compare(better, first, ADAPTATION, RETENTION, {"a": 0.0}).summaries[0]
    assert (knowledge.low, knowledge.high, knowledge.p) == (0, 0, 1)


def test_comparing_the_other_way_round_turns_the_signs(first):
    other = report(seed=1, a=0.5, b=0.4, c=0.6, d=0.6)
    there, back = compare(first, other, ADAPTATION, RETENTION), compare(other, first, ADAPTATION, RETENTION)
    for row, turned in zip(there.datasets, back.datasets, strict=True):
        assert (row.difference, row.p) == (-turned.difference, turned.p)


def test_retrieval_pairs_images_with_their_texts(first):
    row = compare(first, report(a=0.4, b=0.5, c=0.7, d=0.3), ADAPTATION, RETENTION).datasets[-1]
    recall = {score.metric: score.value for score in first.scores if score.dataset == "d"}["recall_at_5"]
    assert row.first == pytest.approx(recall)
    assert row.is_significant


@pytest.mark.parametrize("changed, message", [
    ({"outcomes": {}}, "keeps no outcomes of a"),
    ({"scores": ()}, "lacks a"),
])  # fmt: skip
def test_what_cannot_be_paired_is_refused(first, changed, message):
    with pytest.raises(ValueError, match=message):
        compare(first, first.model_copy(update=changed), ADAPTATION, RETENTION)


def test_outcomes_of_other_images_are_refused(first):
    smaller = store.write_table(outcomes("a", 0.5, images=100))
    other = first.model_copy(update={"outcomes": first.outcomes | {"a": smaller}})
    with pytest.raises(ValueError, match="different images of a"):
        compare(first, other, ADAPTATION, RETENTION)


def test_holm_adjusts_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]


def test_scores_without_samples_enough_for_a_share_still_draw():
    perfect = EvalReport(checkpoint="c", scores=[Score(dataset="a", metric="accuracy_top1", value=1, samples=1)])
    assert group_summaries(perfect, {"g": ["a"]})[0].low == 1
