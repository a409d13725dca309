"""From weights and a step's data to new weights, and where the first weights come from."""

from data_catalog.places import located
from data_catalog.stream import StepPlan
from models import clip, costs
from models.checkpoints import CheckpointRef
from models.launching import Alone, AnyLaunch, Job
from models.prices import StepCost
from models.train import Expert
from models.updates import UpdateSpec
from models.updates.memory import MemoryRef
from tasks.caching import cached
from tasks.device import alone_on_the_device
from tasks.progress import progress_of

ALONE = Alone()


@cached(revision=1, ignore=("model", "weights"), label="import {model}")
def import_weights(identity: str, model: str, weights: str | None) -> CheckpointRef:
    """Store the weights of a pretrained OpenCLIP model."""
    return clip.import_checkpoint(located(model), weights)


@cached(revision=1, ignore=("model",), label="initialise {model}")
def initialise_weights(identity: str, model: str, seed: int) -> CheckpointRef:
    """Store random weights of an architecture."""
    return clip.initialise(located(model), seed)


@cached(revision=3, label="price {spec.method.kind}")
def price_update(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> StepCost:
    """What a step costs, of which `spec` has what decides that and else defaults."""
    return costs.price(backbone, spec, batch_size, pretraining)


@cached(revision=3, label="update {recipe} step {data.step}", ignore=("recipe", "launch"))
def update_weights(
    init: CheckpointRef,
    data: StepPlan,
    spec: UpdateSpec,
    seed: int,
    recipe: str,
    pretrained: CheckpointRef | None = None,
    memory: MemoryRef | None = None,
    steps: int | None = None,
    launch: AnyLaunch = ALONE,
) -> Expert:
    """Train one step where `launch` says; interrupted, it goes on where it stopped.

    `pretrained`, `memory` and `steps`, those of the stream, are given to methods and schedules that use them alone.
    """
    job = Job(init=init, data=data, spec=spec, seed=seed, pretrained=pretrained, memory=memory, steps=steps)
    with alone_on_the_device(), progress_of(f"update {recipe} step {data.step}", samples=data.batch_size) as progress:
        return launch.run(job, progress)


@cached(revision=3, label="update {recipe} step {data.step}", ignore=("recipe", "launch"))
def update_with_snapshots(
    init: CheckpointRef,
    data: StepPlan,
    spec: UpdateSpec,
    seed: int,
    recipe: str,
    snapshots_at: tuple[int, ...],
    pretrained: CheckpointRef | None = None,
    memory: MemoryRef | None = None,
    steps: int | None = None,
    launch: AnyLaunch = ALONE,
) -> Expert:
    """As `update_weights`, to the same weights, and those after some iterations as well.

    It is a stage of its own, so that updates nobody looks into keep the keys of their results. Its revision is that of
    `update_weights`.
    """
    job = Job(init=init, data=data, spec=spec, seed=seed, pretrained=pretrained, memory=memory, steps=steps,
              snapshots_at=snapshots_at)  # fmt: skip
    with alone_on_the_device(), progress_of(f"update {recipe} step {data.step}", samples=data.batch_size) as progress:
        return launch.run(job, progress)
