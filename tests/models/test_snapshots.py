"""Weights inside a step: when they are taken, that taking them changes nothing, and that a killed step keeps them."""

import pytest

from models import train
from models.snapshots import iterations_inside
from models.updates import UpdateSpec


@pytest.mark.parametrize("every, batch, iterations, expected", [
    (100, 32, 10, (4, 7, 10)),  # ceil of 3.1, 6.3, 9.4; 320 samples in all
    (160, 32, 10, (5,)),  # 320 is not below 320
    (10, 32, 2, (1, 2)),  # several marks in one iteration are one look
    (320, 32, 10, ()),
])  # fmt: skip
def test_a_step_is_looked_into_where_the_reference_says(every, batch, iterations, expected):
    assert iterations_inside(every, batch, iterations) == expected


def test_a_look_shows_the_mean_of_the_weights_where_that_is_what_a_step_leaves(tiny, step_plan):
    averaged, bare = (
        train.update(tiny, step_plan, UpdateSpec(lr=3e-3, ema=ema), 7, snapshots_at=(3, 8)) for ema in (0.5, None)
    )
    assert averaged.snapshots[1].checkpoint == averaged.checkpoint
    assert averaged.snapshots[0].checkpoint != bare.snapshots[0].checkpoint


def test_a_killed_step_keeps_what_it_was_looked_into(tiny, step_plan):
    spec, at = UpdateSpec(lr=3e-3), (2, 6)
    uninterrupted = train.update(tiny, step_plan, spec, 7, snapshots_at=at)

    def kill(done, iterations, loss):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.update(tiny, step_plan, spec, 7, progress=kill, save_every_seconds=0, snapshots_at=at)
    resumed = train.update(tiny, step_plan, spec, 7, snapshots_at=at)
    assert (resumed.checkpoint, resumed.snapshots) == (uninterrupted.checkpoint, uninterrupted.snapshots)
    assert len(resumed.snapshots) == 2
