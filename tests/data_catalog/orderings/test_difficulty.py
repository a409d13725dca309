"""Concepts by loss."""

import numpy as np
import pytest

from data_catalog.concept_scores import PairLosses, store_scores
from data_catalog.orderings.base import Background, Concept
from data_catalog.orderings.difficulty import Difficulty
from data_catalog.seeds import rng

CONCEPTS = [Concept("A", "x"), Concept("A", "y"), Concept("B", "x")]


def background(concepts, losses, kind="pair_losses"):
    return Background(scores=store_scores(kind, concepts, np.array(losses)))


def test_the_easiest_come_first():
    order = Difficulty().order(CONCEPTS, rng(0), background(CONCEPTS, [2.0, 3.0, 1.0]))
    assert order == [CONCEPTS[i] for i in (2, 0, 1)]


def test_it_says_what_it_needs():
    need = Difficulty(pairs=7, reference=("CC3M",)).needs()
    assert need.score == PairLosses(pairs=7) and need.checkpoint == "pretrained" and need.reference == ("CC3M",)


def test_scores_of_other_concepts_or_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"1 concepts have no pair_losses, first 'B\+\+\+x'"):
        Difficulty().order(CONCEPTS, rng(0), background(CONCEPTS[:2], [2.0, 3.0]))
    with pytest.raises(ValueError, match=r"needs pair_losses .* given name_embeddings"):
        Difficulty().order(CONCEPTS, rng(0), background(CONCEPTS, np.eye(3).tolist(), "name_embeddings"))
