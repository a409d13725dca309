"""Every metric against a plain double loop over similarities, with ties."""

import numpy as np
import pyarrow as pa
import pytest

from models.evaluation.metrics import CLASSES, concept_scores, contributions, scores_of

TOY = [[0.9, 0.1, 0.3, 0.2], [0.2, 0.8, 0.7, 0.1]]  # reference 9.1: 2 images x 4 captions


def before(row, answer):
    """How many columns of `row` come before `answer`: greater ones, and equal ones further left."""
    count = 0
    for column, value in enumerate(row):
        if value > row[answer] or (value == row[answer] and column < answer):
            count += 1
    return count


def tied_similarities(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 6, (rows, columns)) / 8  # six values: full of ties


def classified(similarity, targets, **columns):
    own = [before(row, answer) for row, answer in zip(similarity, targets, strict=True)]
    confidence = np.exp(similarity).max(1) / np.exp(similarity).sum(1)
    table = {"target": pa.array(targets, pa.int32()), "rank": pa.array(own, pa.int32())}
    table |= {"confidence": pa.array(confidence, pa.float32())} | columns
    return pa.table(table).replace_schema_metadata({CLASSES: str(similarity.shape[1])})


def retrieved(similarity, owners, **columns):
    texts_of = [[text for text, owner in enumerate(owners) if owner == image] for image in range(len(similarity))]
    own = [min(before(row, text) for text in texts) for row, texts in zip(similarity, texts_of, strict=True)]
    images_before = [[before(similarity[:, text], image) for text in texts] for image, texts in enumerate(texts_of)]
    table = {"image_rank": pa.array(own, pa.int32()), "text_ranks": pa.array(images_before, pa.list_(pa.int32()))}
    return pa.table(table | columns)


def values(dataset, kind, outcomes):
    return {score.metric: score.value for score in scores_of(dataset, kind, outcomes, bootstrap=False)}


def looped_recall(similarity, owners, k):
    """Recall by sorting every row and column, one after the other: (image to text, text to image)."""
    images, texts = range(len(similarity)), range(len(owners))
    image_hits = text_hits = 0
    for image in images:
        best = sorted(texts, key=lambda text: (-similarity[image][text], text))[:k]
        image_hits += any(owners[text] == image for text in best)
    for text in texts:
        best = sorted(images, key=lambda image: (-similarity[image][text], image))[:k]
        text_hits += owners[text] in best
    return image_hits / len(images), text_hits / len(texts)


def test_the_toy_recall_of_the_reference():
    found = values("toy", "retrieval", retrieved(np.array(TOY), [0, 0, 1, 1]))
    assert found["recall_at_1"] == 0.5
    assert looped_recall(TOY, [0, 0, 1, 1], 2) == (1, 1)  # R@2 of the reference


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_equals_a_plain_double_loop_where_texts_tie(k):
    similarity = tied_similarities(23, 60)
    owners = sorted([*range(23), *np.random.default_rng(1).integers(0, 23, 37).tolist()])
    to_text, to_image = looped_recall(similarity, owners, k)
    found = values("tied", "retrieval", retrieved(similarity, owners))
    assert found[f"image_to_text_at_{k}"] == to_text
    assert found[f"text_to_image_at_{k}"] == to_image
    assert found[f"recall_at_{k}"] == (to_text + to_image) / 2


def test_accuracies_equal_a_plain_double_loop_where_classes_tie():
    similarity, targets = tied_similarities(80, 12), np.random.default_rng(2).integers(0, 12, 80).tolist()
    top = [sorted(range(12), key=lambda c, row=row: (-row[c], c)) for row in similarity]
    per_class = {}
    for order, target in zip(top, targets, strict=True):
        per_class.setdefault(target, []).append(order[0] == target)
    found = values("tied", "classification", classified(similarity, targets))
    assert found["accuracy_top1"] == sum(o[0] == t for o, t in zip(top, targets, strict=True)) / 80
    assert found["accuracy_top5"] == sum(t in o[:5] for o, t in zip(top, targets, strict=True)) / 80
    assert found["accuracy_per_class"] == pytest.approx(np.mean([np.mean(hits) for hits in per_class.values()]))


def test_top_5_is_left_out_where_it_says_little():
    assert "accuracy_top5" not in values("few", "classification", classified(tied_similarities(5, 9), [0] * 5))
    assert "accuracy_top5" in values("ten", "classification", classified(tied_similarities(5, 10), [0] * 5))


def test_rare_classes_count_as_much_as_frequent_ones():
    similarity = np.eye(2)[[0, 0, 0, 0]]
    assert values("skewed", "classification", classified(similarity, [0, 0, 0, 1]))["accuracy_per_class"] == 0.5


def test_clean_metrics_count_clean_images_only():
    outcomes = classified(np.eye(2)[[0, 0, 1]], [0, 1, 1], clean=[True, True, False])
    scores = {score.metric: score for score in scores_of("leaky", "classification", outcomes)}
    assert (scores["accuracy_top1"].value, scores["accuracy_top1_clean"].value) == (2 / 3, 0.5)
    assert (scores["accuracy_top1"].samples, scores["accuracy_top1_clean"].samples) == (3, 2)


def test_a_set_without_a_clean_image_has_no_clean_scores_and_says_so(caplog):
    outcomes = retrieved(np.array(TOY), [0, 0, 1, 1], clean=[False, False])
    assert not any(name.endswith("_clean") for name in values("seen", "retrieval", outcomes))
    assert "no clean scores" in caplog.text


def test_a_linear_probe_is_scored_where_it_was_asked_for():
    outcomes = classified(np.eye(2), [0, 1], probe_hit=[True, False])
    assert values("probed", "classification", outcomes)["accuracy_linear_probe"] == 0.5


def test_scores_per_concept_average_to_the_score_of_the_set():
    similarity, targets = tied_similarities(40, 3), [0] * 10 + [1] * 30
    outcomes = classified(similarity, targets, concept=["owl"] * 10 + ["cat"] * 30)
    found = concept_scores("birds", "classification", outcomes)
    assert list(found) == ["cat", "owl"]
    whole = values("birds", "classification", outcomes)["accuracy_top1"]
    assert found["owl"].value * 10 + found["cat"].value * 30 == pytest.approx(40 * whole)
    assert found["owl"].low <= found["owl"].value <= found["owl"].high


def test_recall_per_concept_ranks_among_all_images_and_texts():
    similarity, owners = tied_similarities(6, 9), [0, 0, 0, 0, 1, 2, 3, 4, 5]
    outcomes = retrieved(similarity, owners, concept=["owl", "cat", None, "owl", "cat", "cat"])
    kept = retrieved(similarity, owners).take([0, 3])
    found = concept_scores("x", "retrieval", outcomes, bootstrap=False)
    assert found["owl"].value == values("x", "retrieval", kept)["recall_at_5"]
    assert (found["owl"].samples, found["cat"].samples, found["owl"].low) == (2, 3, None)


def test_without_concepts_there_are_no_scores_of_them():
    with pytest.raises(ValueError, match="name no concepts"):
        concept_scores("x", "classification", classified(np.eye(2), [0, 1]))


@pytest.mark.parametrize("kind, outcomes, metric", [
    ("classification", classified(tied_similarities(30, 4), [1] * 30), "accuracy_top1"),
    ("retrieval", retrieved(tied_similarities(9, 12), [0, 0, 0, *range(9)]), "recall_at_5"),
])  # fmt: skip
def test_contributions_of_images_average_to_the_metric_of_the_summaries(kind, outcomes, metric):
    assert contributions(kind, outcomes).mean() == pytest.approx(values("x", kind, outcomes)[metric])


def test_intervals_do_not_depend_on_the_order_of_images():
    outcomes = classified(tied_similarities(50, 12), [3] * 50)
    order = np.random.default_rng(0).permutation(50)
    drawn, reordered = (scores_of("x", "classification", table) for table in (outcomes, outcomes.take(order)))
    for score, other in zip(drawn, reordered, strict=True):
        assert (score.low, score.high) == pytest.approx((other.low, other.high))


@pytest.mark.parametrize("broken, message", [
    (lambda table: table.drop_columns(["rank"]), "lack rank"),
    (lambda table: table.slice(0, 0), "hold no image"),
    (lambda table: table.replace_schema_metadata(None), "how many classes"),
])  # fmt: skip
def test_unusable_outcomes_are_refused(broken, message):
    with pytest.raises(ValueError, match=message):
        scores_of("x", "classification", broken(classified(np.eye(2), [0, 1])))


def test_an_image_without_texts_is_refused():
    outcomes = pa.table({"image_rank": [0, 1], "text_ranks": pa.array([[0], []], pa.list_(pa.int32()))})
    with pytest.raises(ValueError, match="without a text"):
        scores_of("x", "retrieval", outcomes)
