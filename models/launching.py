"""Where an update trains: in this process, in several on this machine or under SLURM, or on a Ray cluster.

Wherever it does, it is `models.train.update` that runs, on the same store; what starts it decides no number. A launch
whose processes died or hang ends with an error that is worth another try, and the next one goes on where they stopped.
"""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from data_catalog.disk import DiskFull
from data_catalog.outage import Outage
from data_catalog.processes import end_with_parent, free_ports, stop
from data_catalog.refs import Spec
from data_catalog.store import MissingArtifact
from data_catalog.stream import StepPlan
from models.checkpoints import CheckpointRef
from models.parallel import HANG_SECONDS, Progress
from models.updates import UpdateSpec
from models.updates.memory import MemoryRef

if TYPE_CHECKING:
    from models.train import Expert  # which takes seconds to import

log = logging.getLogger(__name__)

STOP_SECONDS = 60  # that processes which are told to stop have for storing where they are
LINES = 30  # of what a failed launch said last, in its error
TELLING = {kind.__name__: kind for kind in (ValueError, FloatingPointError, MissingArtifact, DiskFull, Outage)}
MARK = "evergreen-tells "  # what a line for the process that launched begins with
JOB, HANG, CUT = "EVERGREEN_LAUNCHED_JOB", "EVERGREEN_LAUNCHED_HANG_SECONDS", "EVERGREEN_LAUNCHED_SHARDED"
SHARDED = "weights, gradients and moments are cut over the processes (FSDP2): for models that do not fit on one GPU"


class LaunchFailed(Outage):
    """Processes of a launch died, or waited too long for each other."""


class Job(Spec):
    """One call of `models.train.update`."""

    init: CheckpointRef
    data: StepPlan
    spec: UpdateSpec
    seed: int
    pretrained: CheckpointRef | None = None
    memory: MemoryRef | None = None
    steps: int | None = None
    snapshots_at: tuple[int, ...] = ()

    def train(
        self, progress: Progress | None = None, hang_seconds: float = HANG_SECONDS, sharded: bool = False
    ) -> "Expert":
        """In this process, or as one of those that make the call."""
        from models import train

        given = {name: getattr(self, name) for name in type(self).model_fields}
        return train.update(**given, progress=progress, hang_seconds=hang_seconds, sharded=sharded)


@dataclass
class Told:
    """What the processes of a launch told the one that launched them."""

    expert: dict | None = None
    error: Exception | None = None  # the first that says more than that another process was gone


class Alone(Spec):
    """One process, the one that runs the stage."""

    kind: Literal["alone"] = "alone"
    sharded: ClassVar[bool] = False

    @property
    def total(self) -> int | None:
        """Processes in all; None where only the machine knows."""
        return 1

    def run(self, job: Job, progress: Progress | None) -> "Expert":
        """The expert of a job."""
        return job.train(progress)


class Torchrun(Spec):
    """Processes that torchrun starts, a GPU each: those of this machine, or inside a SLURM allocation of several."""

    kind: Literal["torchrun"] = "torchrun"
    processes: Annotated[int, Field(ge=1)] | Literal["gpus"] = Field(
        "gpus", description="on each machine; gpus: as many as it has"
    )
    nodes: int = Field(1, ge=1, description="machines; more than one only inside a SLURM allocation")
    hang_seconds: float = Field(
        HANG_SECONDS, gt=0, description="that a process waits for the others before the attempt ends"
    )
    sharded: bool = Field(False, description=SHARDED)

    @property
    def total(self) -> int | None:
        """Processes in all; None where only the machine knows."""
        return None if self.processes == "gpus" else self.processes * self.nodes

    def run(self, job: Job, progress: Progress | None) -> "Expert":
        """The expert of a job; raises what its processes raise, and LaunchFailed if they died or hang."""
        told = _supervise([*self.command(), "-m", "models.launched"], progress, self.environment(job))
        return _expert(told)

    def command(self) -> list[str]:
        """The launcher; raises ValueError where it cannot start as many as are asked for."""
        # no restarts: a fresh launch has a fresh store of addresses, in which nobody meets those of the dead
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={self.local()}",
                    "--max-restarts=0"]  # fmt: skip
        if self.nodes == 1:
            return [*torchrun, "--standalone"]
        if "SLURM_JOB_ID" not in os.environ:
            raise ValueError(
                f"`nodes` is {self.nodes}, but this is no SLURM allocation, in which `srun` could start the others; "
                "submit the flow with sbatch, or train on a Ray cluster (`kind: ray`)"
            )
        srun = ["srun", f"--nodes={self.nodes}", f"--ntasks={self.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit"]
        where = f"--rdzv-endpoint={socket.gethostname()}:{free_ports('')[0]}"
        return [*srun, *torchrun, f"--nnodes={self.nodes}", "--rdzv-backend=c10d", where,
                f"--rdzv-id={os.environ['SLURM_JOB_ID']}"]  # fmt: skip

    def local(self) -> int:
        """Processes on each machine; raises ValueError where there are not as many GPUs."""
        found = torch.cuda.device_count()
        if self.processes == "gpus":
            return max(1, found)
        if found and self.processes > found:
            raise ValueError(
                f"`processes` is {self.processes}, but this machine has {found} GPUs, and two processes on one would "
                "share its memory; set it to `gpus`"
            )
        return self.processes

    def environment(self, job: Job) -> dict[str, str]:
        """What the processes are given beside the variables of this one."""
        share = max(1, (os.cpu_count() or 1) // self.local())
        own = {"OMP_NUM_THREADS": str(share)} if "OMP_NUM_THREADS" not in os.environ else {}
        return own | {
            JOB: job.model_dump_json(), HANG: str(self.hang_seconds), CUT: str(self.sharded),
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip


class RayTrain(Spec):
    """Workers of a Ray cluster, for machines that come and go, or that stages share."""

    kind: Literal["ray"] = "ray"
    workers: int = Field(ge=1, description="processes that train")
    gpus: float = Field(1, ge=0, description="of each worker")
    cpus: float = Field(1, gt=0, description="of each worker")
    address: str = Field(
        "local", description="of the cluster: host:port, ray://host:port or auto; local: one of this process's own"
    )
    hang_seconds: float = Field(
        HANG_SECONDS, gt=0, description="that a worker waits for the others before the attempt ends"
    )
    sharded: bool = Field(False, description=SHARDED)

    @property
    def total(self) -> int | None:
        """Processes in all."""
        return self.workers

    def run(self, job: Job, progress: Progress | None) -> "Expert":
        """The expert of a job; raises what its workers raise, and LaunchFailed if they died or hang."""
        from models.ray_training import fit

        return _expert(fit(job, self, progress))


AnyLaunch = Annotated[Alone | Torchrun | RayTrain, Field(discriminator="kind")]


def _supervise(command: list[str], progress: Progress | None, environment: Mapping[str, str]) -> Told:
    """Start processes, pass on what they report, and stop them all with this one; returns what they told."""
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True, preexec_fn=end_with_parent)  # fmt: skip
    told, last = Told(), []
    try:
        for line in process.stdout:
            if line.startswith(MARK):
                take(told, json.loads(line.removeprefix(MARK)), progress)
            else:
                log.debug("%s", line.rstrip())
                last = [*last, line.rstrip()][-LINES:]
        process.wait()
    finally:
        stop(process, STOP_SECONDS)  # the launcher passes it on
        process.stdout.close()
    if process.returncode:
        raise told.error or LaunchFailed(
            f"the training processes ended with code {process.returncode}: one died, or waited too long for another; "
            "run it again and it goes on where it was saved last. What they said last:\n" + "\n".join(last)
        )
    return told


def take(told: Told, message: dict[str, Any], progress: Progress | None) -> None:
    """Deal with what a process of a launch tells: progress, the expert, or what it failed of."""
    if "progress" in message and progress:
        progress(*message["progress"])
    if "expert" in message:
        told.expert = message["expert"]
    if "error" in message and told.error is None:
        told.error = TELLING[message["error"]](message["message"])


def _expert(told: Told) -> "Expert":
    from models.train import Expert

    return Expert.model_validate(told.expert)
