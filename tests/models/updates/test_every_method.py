"""What holds for every update method, with its published defaults on a tiny model."""

import typing

import pytest
import torch

from data_catalog.store import locate, read_table, write_table
from models import budget, train
from models.checkpoints import load
from models.updates import AnyMethod, UpdateSpec

KINDS = typing.get_args(typing.get_args(AnyMethod)[0]) or (typing.get_args(AnyMethod)[0],)
SMALL = {"rank": 2, "fisher_samples": 16, "texts": 8, "update_every": 3, "ensemble_every": 3, "every": 3, "queue": 16}


def small(kind):
    """A method with what is too large for a tiny model or too long for eight iterations made small."""
    return kind(**{name: value for name, value in SMALL.items() if name in kind.model_fields})


METHODS = [small(kind) for kind in KINDS]
every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.kind)


@pytest.fixture
def mixed_plan(step_plan):
    """The step plan with a quarter of each batch from the pretraining pool."""
    table = read_table(step_plan.digest)
    pools = (["update"] * 6 + ["pretraining"] * 2) * 8
    table = table.set_column(table.column_names.index("pool"), "pool", [pools])
    samples = {"update": 48, "buffer": 0, "pretraining": 16}
    return step_plan.model_copy(update={"digest": write_table(table), "samples": samples})


def run(tiny, plan, method, init=None, memory=None, **options):
    spec = UpdateSpec(method=method, lr=3e-3)
    pretrained = tiny if "pretrained" in method.USES else None
    kept = memory if "memory" in method.USES else None
    return train.update(init or tiny, plan, spec, 7, pretrained, kept, **options)


@every_method
def test_it_learns_and_stores_a_plain_checkpoint(tiny, mixed_plan, method):
    expert = run(tiny, mixed_plan, method)
    before, after = load(tiny), load(expert.checkpoint)
    assert set(after) == set(before)
    assert all(torch.isfinite(after[name]).all() and after[name].dtype == before[name].dtype for name in after)
    assert any(not after[name].equal(before[name]) for name in after)
    assert set(read_table(expert.curves).column_names) >= {"iteration", "loss", "penalty", "lr"}


@every_method
def test_interrupted_and_resumed_it_ends_in_the_same_bytes(tiny, mixed_plan, method):
    first = run(tiny, mixed_plan, method)
    second_plan = mixed_plan.model_copy(update={"step": 1})
    uninterrupted = run(tiny, second_plan, method, first.checkpoint, first.memory)

    def kill(done, iterations, loss):
        if done == 6:
            raise KeyboardInterrupt

    arguments = (tiny, second_plan, method, first.checkpoint, first.memory)
    with pytest.raises(KeyboardInterrupt):
        run(*arguments, progress=kill, save_every_seconds=0)
    resumed = run(*arguments)
    assert resumed.checkpoint == uninterrupted.checkpoint
    assert resumed.memory == uninterrupted.memory
    assert resumed.curves and read_table(resumed.curves)["loss"] == read_table(uninterrupted.curves)["loss"]


@every_method
def test_a_batch_in_parts_trains_like_a_whole_one(tiny, mixed_plan, method):
    plan = mixed_plan.model_copy(update={"iterations": 2})
    pretrained = tiny if "pretrained" in method.USES else None
    whole, parts = (
        load(train.update(tiny, plan, UpdateSpec(method=method, lr=1e-4, accumulate=n), 7, pretrained).checkpoint)
        for n in (1, 3)
    )
    compared = [name for name in whole if not name.endswith("in_proj_bias")]  # a key's moves by rounding alone
    assert all(torch.allclose(whole[name], parts[name], atol=3e-5) for name in compared)


@every_method
def test_what_it_keeps_is_stored(tiny, mixed_plan, method):
    expert = run(tiny, mixed_plan, method)
    if expert.memory is None:
        assert "memory" not in method.USES
    else:
        assert locate(expert.memory.digest).stat().st_size > 0 and expert.memory.anchor == expert.checkpoint


@every_method
def test_it_has_a_price_without_a_device(tiny, method):
    price = budget.cost(tiny.backbone, method, 8)
    assert price.gflops > 0 and 0 < price.memory_multiplier < 10


@every_method
def test_looking_inside_changes_nothing_and_the_last_look_is_the_expert(tiny, mixed_plan, method):
    plain = run(tiny, mixed_plan, method)
    seen = run(tiny, mixed_plan, method, snapshots_at=(3, 8))
    assert seen.checkpoint == plain.checkpoint and seen.memory == plain.memory
    assert read_table(seen.curves)["loss"] == read_table(plain.curves)["loss"]
    assert [some.iteration for some in seen.snapshots] == [3, 8] and plain.snapshots == ()
    assert seen.snapshots[1].checkpoint == plain.checkpoint != seen.snapshots[0].checkpoint
