"""Where the stages of a flow run: on threads of its process, or in worker processes of Ray, here or on a cluster."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from data_catalog.redaction import has_password
from data_catalog.refs import Spec
from flows.environment import PATIENCE, QUIET, SILENT
from models.ray_cluster import arguments, environment_for_workers

if TYPE_CHECKING:
    from prefect.task_runners import TaskRunner

Stage = Literal["ingest", "captions", "embeddings", "evaluation", "merge_search"]
TASKS: dict[Stage, tuple[str, ...]] = {  # that leave the process of the flow: the others take milliseconds
    "ingest": ("inspect_images", "ingest_dataset"),
    "captions": ("caption_rows", "caption_dataset"),
    "embeddings": ("embed_rows", "embed_dataset", "score_captions", "score_concepts"),
    "evaluation": ("evaluate_checkpoint", "evaluate_with_whole_sets", "evaluate_as_upstream"),
    "merge_search": ("evaluate_candidates",),
}
TOLD = {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", *SILENT, *QUIET, *PATIENCE}  # to workers, with all EVERGREEN_*
SHARE = 0.25  # of a GPU: as many beside each other as threads; a stage without a share would compute on CPUs instead


class Threads(Spec):
    """Threads of the process that runs the flow."""

    kind: Literal["threads"] = "threads"
    workers: int = Field(4, ge=1, description="stages at once")

    def runner(self) -> "TaskRunner":
        """What Prefect submits tasks to."""
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner(max_workers=self.workers)


class Ray(Spec):
    """Worker processes of Ray, which take the long stages; a worker that dies is replaced, and its stage run again."""

    kind: Literal["ray"] = "ray"
    address: str = Field(
        "local", min_length=1, description="local: processes of this machine, which end with the run; auto: the "
        "cluster that this machine is part of; or `host:port` or `ray://host:port` of one",
    )  # fmt: skip
    workers: int | None = Field(
        None, ge=1, description="CPUs of `address: local`; null: those of the machine. A cluster has what it has"
    )
    cpus: dict[Stage, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict, description="of one task of a stage; 1 where not named"
    )
    gpus: dict[Stage, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        description="of one task of a stage, e.g. 0.5: two of them share one, and 0: it sees none; not "
        "named: 0.25 with `address: local` where there is one, but 0 at ingest, and 0 on a cluster",
    )
    images: int = Field(
        50_000, ge=1, description="of a dataset that one task of ingest, captions or embeddings takes; of more, several"
    )
    retries: int = Field(3, ge=0, description="of a stage whose worker died")
    threads: int | None = Field(
        None, ge=1, description="of a model's operators in a worker, whose number decides the last bits of models "
        "above 5 million parameters on CPUs; null: as many as in the process of the flow",
    )  # fmt: skip

    def runner(self) -> "TaskRunner":
        """What Prefect submits tasks to; raises ValueError where Ray is not installed."""
        connection = self._connection()  # before ray is imported
        try:
            from tasks.ray_runner import StageRunner
        except ImportError as error:
            raise ValueError(
                "`execution.stages` is ray, which is not installed here: install `evergreen[ray]`, or take threads"
            ) from error
        return StageRunner(connection, self._options(), told_to_workers, self.images)

    def _options(self) -> dict[str, dict[str, Any]]:
        """What Ray is asked for each task by name."""
        from models import embeddings

        usual = SHARE if self.address == "local" and embeddings.device_kind() == "cuda" else 0
        return {
            task: {
                "num_cpus": self.cpus.get(stage, 1),
                "num_gpus": self.gpus.get(stage, 0 if stage == "ingest" else usual),
                "max_retries": self.retries,
            }
            for stage, tasks in TASKS.items()
            for task in tasks
        }

    def _connection(self) -> dict[str, Any]:
        """The arguments of `ray.init`."""
        from models.threads import DEFAULT

        told = told_to_workers() | {"OMP_NUM_THREADS": str(self.threads or DEFAULT)}  # else Ray sets one
        cpus = {"num_cpus": self.workers} if self.workers else {}
        return arguments(self.address) | {"runtime_env": {"env_vars": told}} | cpus

    @model_validator(mode="after")
    def _asks_for_what_can_be(self) -> "Ray":
        if self.workers and self.address != "local":
            raise ValueError(
                f"`workers` is {self.workers}, but the cluster at {self.address} has as many as its machines offer: "
                "take it out, and say by `cpus` and `gpus` what a task of each stage needs"
            )
        if odd := {stage: share for stage, share in self.gpus.items() if share > 1 and share % 1}:
            raise ValueError(f"`gpus` has {odd}, expected a share of one GPU, at most 1, or a whole number of them")
        if too_much := {stage: count for stage, count in self.cpus.items() if self.workers and count > self.workers}:
            raise ValueError(f"`cpus` has {too_much}, but `workers` is {self.workers}: such a stage never starts")
        if has_password(self.address):
            raise ValueError("`address` has a password in it; Ray reads its token from RAY_AUTH_TOKEN_PATH")
        return self


AnyEngine = Annotated[Threads | Ray, Field(discriminator="kind")]


@contextlib.contextmanager
def carried_out_by(engine: AnyEngine) -> Iterator[None]:
    """Let what the flow at hand submits in the block run where `engine` says.

    The configuration is known inside a flow only, whoever called it: Prefect's own place for a runner is its decorator.
    """
    from prefect.context import FlowRunContext

    with engine.runner() as runner, FlowRunContext.get().model_copy(update={"task_runner": runner}):
        yield


def images_of_a_task() -> int | None:
    """How many images one task takes of a dataset where others could take the rest; None: there are no others."""
    from prefect.context import FlowRunContext

    flow = FlowRunContext.get()
    return getattr(flow.task_runner, "images", None) if flow else None


def told_to_workers(given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What workers are told of an environment: places and switches."""
    return environment_for_workers(given, TOLD)
