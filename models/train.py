"""The only training: one step of a stream, from stored weights to stored weights, resumable at any iteration."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import torch
from torch import Tensor, nn

from data_catalog import disk
from data_catalog.places import store_root
from data_catalog.refs import Spec
from data_catalog.seeds import seed_of
from data_catalog.store import digest_of, locate, write_table
from data_catalog.stream import StepPlan
from models import clip, decoding, threads
from models.batches import Replaced, StepBatches
from models.checkpoints import CheckpointRef, save
from models.footprint import footprint
from models.forward import embed
from models.interruption import HeldSignals
from models.minibatch import Minibatch
from models.parallel import HANG_SECONDS, Ranks, joined
from models.sharding import check_method, shard, whole
from models.snapshots import Snapshot, put_mean, weights_now
from models.training_loop import Course, Loop, Progress
from models.training_step import contrastive_gradients, set_up
from models.unfinished import SaveClock, SavedStates
from models.updates import UpdateSpec, memory
from models.updates.carried import Given, Passes
from models.updates.memory import MemoryRef

_REVISION = 3  # of the loop, for states of unfinished steps; raise it together with that of the task


class Expert(Spec):
    """What an update leaves: the weights, its curves, what its method keeps, and how much was computed."""

    checkpoint: CheckpointRef
    curves: str  # digest of a table with a row per iteration
    memory: MemoryRef | None = None  # for the next step; none of most methods
    iterations: int  # that moved the weights: fewer than planned if the loss was no longer finite
    passes: int = 0  # forward and backward passes after the training
    snapshots: tuple[Snapshot, ...] = ()  # inside the step, by iteration; none unless asked for


class _Job(NamedTuple):
    """Everything that decides the result of a step."""

    init: CheckpointRef
    data: StepPlan
    spec: UpdateSpec
    seed: int
    pretrained: CheckpointRef | None
    memory: MemoryRef | None
    steps: int | None


def update(
    init: CheckpointRef,
    data: StepPlan,
    spec: UpdateSpec,
    seed: int,
    pretrained: CheckpointRef | None = None,
    memory: MemoryRef | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
    save_every_seconds: float | None = None,
    save_every_iterations: int | None = None,
    snapshots_at: Sequence[int] = (),
    hang_seconds: float = HANG_SECONDS,
    sharded: bool = False,
) -> Expert:
    """Train `init` on `data` as `spec` says and store the expert; an interrupted call goes on where it stopped.

    `pretrained`, `memory`: for methods that use them; `steps`: of the whole stream, where it is known;
    `snapshots_at`: iterations after which the weights are stored too, which changes nothing else. Resumed and
    uninterrupted runs give the same bytes on one machine.

    Called in every process of a launch (torchrun, Ray Train), each trains on its rows of the batches, whose size is
    that of all together, the first one writes, and the weights are those of one process up to rounding.
    `hang_seconds`: that one waits for another before it raises; `sharded`: no process has the whole model. Raises
    FloatingPointError when the loss is no longer finite, ValueError when something the method or the schedule needs is
    not given.
    """
    job = _Job(init, data, spec, seed, pretrained, memory, steps)
    _check(job)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bare = clip.build(init)
    threads.fit_to(bare)
    with joined(hang_seconds) as ranks, torch.random.fork_rng(), _deterministic(), HeldSignals() as signals:
        torch.manual_seed(seed_of(seed, "training", data.step))
        size = clip.preprocessing(init.backbone).size
        batches = StepBatches(data, size, clip.tokenizer(init.backbone), seed, spec.on_damaged, ranks)
        model = spec.method.prepare(bare.train(), seed_of(seed, "method", data.step)).to(device)
        model = model.double() if spec.precision == "fp64" else model
        if sharded and ranks.size > 1:
            _check_sharded(job, snapshots_at)
            model = shard(model)
        course = Course(set_up(model, spec, _given(job, batches, device), ranks))
        saved = SavedStates(_key(job, device, snapshots_at))
        _require_room(job, course, saved, len(snapshots_at))
        _go_on(course, saved, job, ranks)
        clock = SaveClock(save_every_seconds, save_every_iterations)
        loop = Loop(course, batches, data, steps, init.backbone, ranks, saved, clock, signals, progress,
                    frozenset(snapshots_at), partial(_store_snapshot, job, device))  # fmt: skip
        loop.go()
        stopped = not _is_done(course, data)
        expert = None if stopped else ranks.from_first(_conclude(job, loop, device))
    if expert is None:
        raise KeyboardInterrupt("a signal came outside the main thread")  # inside, leaving the block delivered it
    if ranks.is_first:
        saved.remove()
    return expert


def _check_sharded(job: _Job, snapshots_at: Sequence[int]) -> None:
    check_method(job.spec.method)
    if snapshots_at:
        raise ValueError("where training is `sharded`, no weights are taken inside a step: leave `inside` out")


def _go_on(course: Course, saved: SavedStates, job: _Job, ranks: Ranks) -> None:
    """Take over the stored state of an interrupted step; raises RuntimeError where processes see different ones."""
    if (state := saved.latest()) is not None:
        course.restore(state)
    found = ranks.gathered(course.iteration)
    if len({*found}) > 1:
        raise RuntimeError(f"the processes go on at different iterations, {found}: do all see {saved.folder}?")
    if not ranks.is_first:  # else every process would leave out the same patches of its own images
        torch.manual_seed(seed_of(job.seed, "training", job.data.step, ranks.rank, course.iteration))


def _require_room(job: _Job, course: Course, saved: SavedStates, snapshots: int) -> None:
    """Raise DiskFull unless the step fits on the disk; a step that is gone on with has some of it already."""
    method, model = job.spec.method, course.run.model
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    weights = locate(job.init.digest).stat().st_size
    found = footprint(course.state(), trained, weights, snapshots, "memory" in method.USES)
    disk.require_room(found.peak - saved.size(), found.left, store_root(), f"the update of step {job.data.step}")


def _is_done(course: Course, data: StepPlan) -> bool:
    return course.ended_early or course.iteration == data.iterations


def _conclude(job: _Job, loop: Loop, device: torch.device) -> Expert | None:
    """From trained weights to what is stored: the mean of the weights if asked for, memory, checkpoint, curves.

    The first process stores it; None in others.
    """
    course, method, run = loop.course, job.spec.method, loop.course.run
    passes = method.passes(job.data.batch_size)
    if passes:
        loop.save()  # passes may take long, and a state before them makes the training safe
    put_mean(run.model, run.mean)
    kept = method.remember(run.model, run.carried, _passes(loop))
    weights = whole(method.finish(run.model, run.carried))
    if not loop.ranks.is_first:
        return None
    origin = _origin(job, device) | _record(course, job.data)
    if loop.ranks.size > 1:
        origin["processes"] = loop.ranks.size
    checkpoint = save(weights, job.init.backbone, **origin)
    remembered = None if kept is None else memory.save(kept, method.kind, checkpoint, **origin)
    curves = pa.table({"iteration": range(course.iteration), **course.curves})
    return Expert(
        checkpoint=checkpoint,
        curves=write_table(curves, curves_of=checkpoint.digest),
        memory=remembered,
        iterations=course.iteration,
        passes=passes,
        snapshots=tuple(Snapshot(iteration=i, checkpoint=some) for i, some in sorted(_snapshots(course, job))),
    )


def _store_snapshot(job: _Job, device: torch.device, course: Course) -> None:
    origin = _origin(job, device) | {"made_by": "update, inside", "iteration": course.iteration}
    course.snapshots[course.iteration] = save(weights_now(course.run), job.init.backbone, **origin).digest


def _snapshots(course: Course, job: _Job) -> Iterator[tuple[int, CheckpointRef]]:
    for iteration, digest in course.snapshots.items():
        yield iteration, CheckpointRef(digest=digest, backbone=job.init.backbone)


def _given(job: _Job, batches: StepBatches, device: torch.device) -> Given:
    """What the method is given, on the device."""
    teacher = None
    if job.pretrained is not None:
        teacher = clip.build(job.pretrained).to(device).requires_grad_(False)
        teacher = teacher.double() if job.spec.precision == "fp64" else teacher
    kept = None
    if job.memory is not None:
        stored = memory.load(job.memory, job.spec.method.kind)
        groups = {group: _on(device, tensors) for group, tensors in stored.groups.items()}
        kept = stored._replace(groups=groups)  # of the anchor, methods take to the device what they use
    part = -(-job.data.batch_size // job.spec.accumulate)

    def in_parts(model: nn.Module, images: Tensor | None, tokens: Tensor | None):
        return embed(model, images, tokens, job.spec.precision, part)

    return Given(
        pretrained=teacher,
        memory=kept,
        reference_texts=lambda most: batches.pretraining_texts(most).to(device),
        embed=in_parts,
        seed=seed_of(job.seed, "method", job.data.step),
    )


def _on(device: torch.device, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _passes(loop: Loop) -> Passes:
    run = loop.course.run

    def batches(count: int) -> Iterator[Minibatch]:
        return map(loop.minibatch, loop.batches.of_update_pool(count))

    return Passes(batches, partial(contrastive_gradients, run))


def _check(job: _Job) -> None:
    method = job.spec.method
    if "pretrained" in method.USES and job.pretrained is None:
        raise ValueError(f"the method {method.name()!r} needs the pretrained weights; give `pretrained`")
    if job.memory is not None and "memory" not in method.USES:
        raise ValueError(f"the method {method.name()!r} keeps nothing between steps, yet got a memory; leave it out")


def _key(job: _Job, device: torch.device, snapshots_at: Sequence[int]) -> str:
    """A name for the unfinished states of a job: of everything that decides its result."""
    what = {name: _plain(value) for name, value in job._asdict().items()}
    what |= {"snapshots_at": [*snapshots_at]} if snapshots_at else {}
    what |= {"revision": _REVISION, "decoding": decoding.REVISION} | _machine(device)
    del what["threads"]  # other launches have others, and go on all the same
    return digest_of(json.dumps(what, sort_keys=True).encode())[7:39]


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, Spec) else value


def _origin(job: _Job, device: torch.device) -> dict:
    """Who made the weights from what, for the manifest; the method's memory and teacher are parents too."""
    used = {name: ref.digest for name, ref in (("pretrained", job.pretrained), ("memory", job.memory)) if ref}
    return {
        "made_by": "update",
        "init": job.init.digest,
        "step_plan": job.data.digest,
        "step": job.data.step,
        "spec": job.spec,
        "seed": job.seed,
        **used,
    } | _machine(device)


def _record(course: Course, data: StepPlan) -> dict:
    """For the manifest: whether the step ended early, and which draws were replaced since their images are damaged."""
    log, record = logging.getLogger(__name__), {}
    if course.ended_early:
        log.warning(
            "step %d was no longer finite: it ends after %d of %d iterations, with the last good weights",
            data.step, course.iteration, data.iterations,
        )  # fmt: skip
        record["ended_early_after"] = course.iteration
    if course.replaced:
        log.warning(
            "step %d: %d draws have damaged images and were replaced by others of their pools, first: %s",
            data.step, len(course.replaced), course.replaced[0].reason,
        )  # fmt: skip
        columns = dict(zip(Replaced._fields, zip(*course.replaced, strict=True), strict=True))
        rows = write_table(pa.table(columns), replaced_in=data.digest)
        record |= {"replaced": len(course.replaced), "replaced_rows": rows}
    return record


def _machine(device: torch.device) -> dict:
    """What decides, beside the inputs, which bits an update ends in."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": f"{device.type} {name}"}


class _deterministic:
    """Deterministic kernels inside the block; the previous choice comes back after it."""

    def __enter__(self) -> None:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        self._before = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        torch.use_deterministic_algorithms(True, warn_only=False)

    def __exit__(self, *exception: object) -> None:
        torch.use_deterministic_algorithms(self._before[0], warn_only=self._before[1])
