import numpy as np
import pytest
import torch

from models.evaluation.probe import Probe, chosen_l2, fitted, probe_hits


def clusters(per_class, seed, spread=0.4):
    """Unit features around three directions, and their classes."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(3).repeat(per_class)
    features = torch.eye(3, 8)[targets] + spread * torch.randn(len(targets), 8, generator=generator)
    return torch.nn.functional.normalize(features, dim=1), targets


def test_clusters_that_can_be_told_apart_are():
    hits = probe_hits(Probe(l2=(1e-4,)), *clusters(30, 0, 0.1), *clusters(20, 1, 0.1), classes=3)
    assert hits.shape == (60,) and bool(hits.all())


def test_the_minimum_is_that_of_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, targets = clusters(30, 0)
    theirs = linear_model.LogisticRegression(C=1 / (0.01 * len(features)), tol=1e-8, max_iter=1000)
    theirs.fit(features.numpy(), targets.numpy())
    ours = fitted(features, targets, 3, l2=0.01, iterations=500)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=2e-3)


def test_the_penalty_that_answers_best_on_held_out_images_is_chosen():
    features, targets = clusters(30, 0)
    assert chosen_l2(Probe(l2=(1e6, 1e-2)), features, targets, 3) == 1e-2


def test_equal_penalties_leave_the_first():
    assert chosen_l2(Probe(l2=(2e-3, 1e-3)), *clusters(30, 0, 0.01), 3) == 2e-3


def test_too_few_training_images_are_refused():
    with pytest.raises(ValueError, match="1 training images"):
        probe_hits(Probe(), torch.eye(1), torch.zeros(1).long(), torch.eye(1), torch.zeros(1).long(), 2)
