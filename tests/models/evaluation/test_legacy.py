import numpy as np
import pyarrow as pa
import pytest
import torch

from models.evaluation.legacy import (
    SHIFTED,
    owner_shift,
    shifted_recall,
    shifted_text_ranks,
    shrunken_positions,
    shrunken_scores,
)
from models.evaluation.metrics import CLASSES


def perfect(images=1777, dim=8):
    """Features of images and of one caption each, which are theirs: the right recall is 1 everywhere."""
    features = torch.randn(images, dim, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(features, dim=1)


def outcomes(features, shift):
    owners = torch.arange(len(features))
    right, shifted = (shifted_text_ranks(features, features, owners, s)[:, None].tolist() for s in (0, shift))
    return pa.table({"image_rank": [0] * len(features), "text_ranks": right, SHIFTED: shifted})


def test_perfect_features_lose_one_direction_to_shifted_owners():
    found = {score.metric: score.value for score in shifted_recall("FSCOCO", outcomes(perfect(), shift=1))}
    assert found["recall_at_1_legacy"] == 0.5
    assert found["recall_at_5_legacy"] == pytest.approx(0.5014, abs=0.002)  # reference 9.1


def test_without_a_shift_nothing_is_lost():
    found = {score.metric: score.value for score in shifted_recall("FSCOCO", outcomes(perfect(50), shift=0))}
    assert set(found.values()) == {1.0}


def test_the_shift_is_the_smallest_class_target():
    assert owner_shift([3, 1, 2]) == 1


def test_a_text_whose_owner_is_before_the_first_image_never_hits():
    features = perfect(4)
    ranks = shifted_text_ranks(features, features, torch.arange(4), shift=1, chunk=3)
    similarity = (features @ features.T).tolist()
    expected = [4] + [sum(s > row[text - 1] for s in row) for text, row in enumerate(similarity) if text]
    assert ranks.tolist() == expected


def test_outcomes_without_shifted_owners_are_refused():
    with pytest.raises(ValueError, match="profile paper"):
        shifted_recall("FSCOCO", outcomes(perfect(4), 1).drop_columns([SHIFTED]))


@pytest.mark.parametrize("classes, images, sizes", [
    (10, 10_000, [10_000, 1_000, 300]),  # CIFAR10
    (1_000, 50_000, [50_000, 5_000, 2_000]),  # ImageNet
])  # fmt: skip
def test_evaluating_again_shrinks_the_set_again(classes, images, sizes):
    targets = np.arange(images) % classes
    left = [shrunken_positions(targets, classes, 0.1, seed=0, dataset="x", evaluations=n) for n in range(3)]
    assert [len(positions) for positions in left] == sizes
    assert set(left[2]) < set(left[1])


def test_shrunken_scores_count_what_is_left():
    table = pa.table({"rank": [0, 1, 0, 1], "target": [0, 0, 1, 1], "confidence": [0.5] * 4})
    table = table.replace_schema_metadata({CLASSES: "2"})
    scores = {score.metric: score for score in shrunken_scores("x", table, np.array([0, 2]))}
    assert (scores["accuracy_top1_legacy"].value, scores["accuracy_top1_legacy"].samples) == (1, 2)
