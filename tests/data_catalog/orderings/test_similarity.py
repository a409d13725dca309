"""The greedy path, against the plain definition."""

import numpy as np
import pytest

from data_catalog.concept_scores import NameEmbeddings, ScoredBy, store_scores
from data_catalog.orderings.base import Background, Concept
from data_catalog.orderings.similarity import Similarity, best_path
from data_catalog.seeds import rng


def unit(count, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def plain_path(embeddings, start):
    similar, path, total = embeddings @ embeddings.T, [start], 0.0
    while len(path) < len(embeddings):
        left = [i for i in range(len(embeddings)) if i not in path]
        path.append(max(left, key=lambda i: similar[path[-1], i]))
        total += similar[path[-2], path[-1]]
    return path, total


@pytest.mark.parametrize("count", [1, 2, 3, 60])
def test_the_best_of_all_starts_is_kept(count):
    embeddings = unit(count)
    expected = max((plain_path(embeddings, start) for start in range(count)), key=lambda found: found[1])[0]
    assert best_path(embeddings, np.arange(count)).tolist() == expected


def test_short_lists_of_neighbours_give_the_same_path():
    embeddings = unit(150)
    assert (best_path(embeddings, np.arange(9), lists_bytes=1) == best_path(embeddings, np.arange(9))).all()


def test_the_ordering_walks_the_embeddings_of_its_concepts():
    concepts = [Concept("A", str(i)) for i in range(10)]
    scores = store_scores("name_embeddings", concepts[::-1], unit(10)[::-1])
    order = Similarity().order(concepts, rng(0), Background(scores=scores))
    assert order == [concepts[i] for i in best_path(unit(10), np.arange(10))]


def test_fewer_starts_are_drawn_by_the_seed():
    concepts = [Concept("A", str(i)) for i in range(50)]
    background = Background(scores=store_scores("name_embeddings", sorted(concepts), unit(50)))
    firsts = {Similarity(starts=1).order(concepts, rng(seed), background)[0] for seed in range(9)}
    assert len(firsts) > 1


def test_it_says_what_it_needs_and_refuses_to_go_without():
    judge = ScoredBy(model="ViT-L-14", weights="laion2b_s32b_b82k")
    need = Similarity(checkpoint=judge).needs()
    assert need.score == NameEmbeddings() and need.checkpoint == judge
    with pytest.raises(ValueError, match=r"similarity needs name_embeddings .* given no scores: run score_concepts"):
        Similarity().order([Concept("A", "x")], rng(0))


def test_the_checkpoint_is_no_part_of_the_identity():
    assert Similarity(checkpoint=ScoredBy(model="ViT-L-14")).identity() == Similarity().identity()
