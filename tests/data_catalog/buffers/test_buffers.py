"""What all buffers promise: they draw from what came before, by the rows alone, as evenly as they can."""

import numpy as np
import pytest

from data_catalog.buffers import ClassBalanced, ClipScoreFiltered, RecencyWeighted, Reservoir, StepBalanced, Unlimited
from data_catalog.draws import PoolRows
from data_catalog.seeds import rng

KINDS = [Unlimited(), ClassBalanced(), StepBalanced(), RecencyWeighted(half_life=1.5), Reservoir(size=30),
         ClipScoreFiltered(share=0.4)]  # fmt: skip


def stream(count=300, seed=0):
    """Rows of five steps of falling size, two datasets and eleven concepts."""
    generator = rng(seed)
    step = np.sort(generator.choice(5, count, p=[0.4, 0.3, 0.15, 0.1, 0.05]))
    concept = generator.integers(0, 11, count)
    return PoolRows(step, concept % 2, ("A", "B"), concept, generator.random(count))


@pytest.mark.parametrize("buffer", KINDS, ids=lambda buffer: buffer.kind)
def test_draws_repeat_exactly_and_change_with_step_and_seed(buffer):
    rows = stream()
    one = buffer.draw(rows, 100, 120, 5, 0, "buffer")
    assert len(one) == 100 and (one == buffer.draw(rows, 100, 120, 5, 0, "buffer")).all()
    assert (one != buffer.draw(rows, 100, 120, 6, 0, "buffer")).any()
    assert (one != buffer.draw(rows, 100, 120, 5, 1, "buffer")).any()


@pytest.mark.parametrize("buffer", KINDS, ids=lambda buffer: buffer.kind)
def test_the_names_of_concepts_and_datasets_do_not_matter(buffer):
    rows = stream()
    renamed = rows._replace(concept=100 - rows.concept * 3, dataset=rows.dataset + 1, names=("0", "A", "B"))
    assert (buffer.draw(rows, 100, 120, 5, 0, "buffer") == buffer.draw(renamed, 100, 120, 5, 0, "buffer")).all()


@pytest.mark.parametrize("buffer", KINDS, ids=lambda buffer: buffer.kind)
def test_a_buffer_of_one_sample_is_drawn_again_and_again(buffer):
    rows = PoolRows(np.zeros(1, int), np.zeros(1, int), ("A",), np.zeros(1, int), np.ones(1))
    assert (buffer.draw(rows, 8, 8, 1, 0, "buffer") == 0).all()


def counts(buffer, rows, count, step=5):
    return np.bincount(buffer.draw(rows, count, count, step, 0, "buffer"), minlength=len(rows.step))


def test_unlimited_is_uniform_over_samples():
    drawn = counts(Unlimited(), stream(), 1000)
    assert drawn.max() - drawn.min() <= 1


def test_class_balanced_shows_every_concept_equally_often():
    rows = stream()
    drawn = counts(ClassBalanced(), rows, 1100)
    assert (np.abs(np.bincount(rows.concept, drawn) - 100) <= 1).all()
    assert all(np.ptp(drawn[rows.concept == concept]) <= 1 for concept in range(11))


def test_step_balanced_shows_every_step_equally_often():
    rows = stream()
    drawn = counts(StepBalanced(), rows, 1000)
    assert (np.abs(np.bincount(rows.step, drawn) - 200) <= 1).all()


def test_recency_halves_with_every_half_life():
    rows = PoolRows(np.repeat(np.arange(5), 100), np.zeros(500, int), ("A",))
    drawn = np.bincount(rows.step, counts(RecencyWeighted(half_life=1), rows, 31_000))
    assert (np.abs(drawn - [1000, 2000, 4000, 8000, 16000]) <= 1).all()
    slow = np.bincount(rows.step, counts(RecencyWeighted(half_life=2), rows, 10_000))
    assert slow[4] == pytest.approx(2 * slow[2], rel=0.01) == pytest.approx(4 * slow[0], rel=0.01)


def test_nothing_repeats_before_it_must():
    for buffer in (Unlimited(), ClassBalanced(), StepBalanced()):
        rows = PoolRows(np.arange(100) // 50, np.zeros(100, int), ("A",), np.arange(100) // 25)
        assert counts(buffer, rows, 80, 2).max() == 1


def test_clip_score_filtered_holds_the_best_of_each_dataset():
    rows = stream()
    drawn = counts(ClipScoreFiltered(share=0.4), rows, 1000) > 0
    for dataset in (0, 1):
        inside = rows.dataset == dataset
        assert drawn[inside].sum() == np.ceil(0.4 * inside.sum())
        assert rows.score[inside & drawn].min() > rows.score[inside & ~drawn].max()
