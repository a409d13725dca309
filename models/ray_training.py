"""Training in the workers of a Ray cluster: the same call as everywhere, in the process group that Ray Train makes.

Ray supervises only the attempt: it does not start workers again. The stage is run again instead, as under torchrun, and
goes on from the last state in the store, which all workers must reach.
"""

import os
import threading
from typing import TYPE_CHECKING, Any

from data_catalog.places import store_root
from models.launched import in_words
from models.launching import TELLING, Job, LaunchFailed, Told, take
from models.parallel import Progress
from models.ray_cluster import arguments, connected, environment_for_workers

if TYPE_CHECKING:
    from models.launching import RayTrain

LISTEN_SECONDS = 0.2  # between two looks at what the workers told


def fit(job: Job, launch: "RayTrain", progress: Progress | None) -> Told:
    """Train a job as `launch` says; returns what its workers told. Raises as `RayTrain.run`."""
    arguments(launch.address)  # before ray is imported
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.util.queue import Queue
    except ImportError as error:
        raise ValueError("`kind: ray` needs Ray on this machine: install `evergreen[ray]`") from error
    with connected(launch.address):
        messages = Queue(actor_options={"num_cpus": 0})
        told, listening = Told(), threading.Event()
        listener = threading.Thread(target=_listen, args=(messages, told, progress, listening), daemon=True)
        given = {"job": job.model_dump_json(), "hang_seconds": launch.hang_seconds, "sharded": launch.sharded,
                 "environment": environment_for_workers(),
                 "messages": messages}  # fmt: skip
        resources = {"CPU": launch.cpus} | ({"GPU": launch.gpus} if launch.gpus else {})
        trainer = TorchTrainer(
            train_worker,
            train_loop_config=given,
            torch_config=TorchConfig(backend="nccl" if launch.gpus else "gloo", timeout_s=round(launch.hang_seconds)),
            scaling_config=ScalingConfig(num_workers=launch.workers, use_gpu=launch.gpus > 0,
                                         resources_per_worker=resources),
            run_config=RunConfig(storage_path=str(store_root() / "launches"),
                                 failure_config=FailureConfig(max_failures=0)),
        )  # fmt: skip
        listener.start()
        failure = None
        try:
            trainer.fit()
        except Exception as error:  # Ray has many, and which one it is says nothing about what a worker failed of
            failure = error
        finally:
            listening.set()
            listener.join()
            _take_all(messages, told, progress)
            messages.shutdown()
    if told.expert is None:
        raise told.error or LaunchFailed(
            "the workers on Ray ended without a result: one died, or waited too long for another; run it again and it "
            f"goes on where it was saved last. Ray said: {str(failure)[-2000:]}"
        ) from failure
    return told


def train_worker(given: dict[str, Any]) -> None:
    """What each worker runs; the first tells how far it is and what came of it, one that fails what it failed of."""
    from ray import train

    os.environ.update(given["environment"])
    messages, is_first = given["messages"], train.get_context().get_world_rank() == 0
    try:
        job = Job.model_validate_json(given["job"])
        expert = job.train(lambda *now: messages.put({"progress": now}), given["hang_seconds"], given["sharded"])
    except tuple(TELLING.values()) as error:
        messages.put(in_words(error))
        raise
    if is_first:
        messages.put({"expert": expert.model_dump(mode="json")})


def _listen(messages: Any, told: Told, progress: Progress | None, ended: threading.Event) -> None:
    while not ended.wait(LISTEN_SECONDS):
        _take_all(messages, told, progress)


def _take_all(messages: Any, told: Told, progress: Progress | None) -> None:
    for message in messages.get_nowait_batch(messages.size()):
        take(told, message, progress)
