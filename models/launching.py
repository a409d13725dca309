"""Where an update trains: in this process, in several on this machine or under SLURM, or on a Ray cluster.

Wherever it does, it is `models.train.update` that runs, on the same store; what starts it decides no number. A launch
whose processes died or hang ends with an error that is worth another try, and the next one goes on where they stopped.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import Field

from data_catalog.disk import DiskFull
from data_catalog.outage import Outage
from data_catalog.places import store_root
from data_catalog.processes import end_with_parent
from data_catalog.refs import Spec
from data_catalog.store import MissingArtifact
from data_catalog.store_files import make_folder
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
TOLD = {kind.__name__: kind for kind in (ValueError, FloatingPointError, MissingArtifact, DiskFull, Outage)}


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

    def train(self, progress: Progress | None = None, hang_seconds: float = HANG_SECONDS) -> "Expert":
        """In this process, or as one of those that make the call."""
        from models import train

        given = {name: getattr(self, name) for name in type(self).model_fields}
        return train.update(**given, progress=progress, hang_seconds=hang_seconds)


class Alone(Spec):
    """One process, the one that runs the stage."""

    kind: Literal["alone"] = "alone"

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

    def run(self, job: Job, progress: Progress | None) -> "Expert":
        """The expert of a job; raises what its processes raise, and LaunchFailed if they died or hang."""
        make_folder(store_root() / "launches")
        with tempfile.TemporaryDirectory(dir=store_root() / "launches") as folder:
            (Path(folder) / "job.json").write_text(job.model_dump_json())
            _supervise([*self.command(), "-m", "models.launched", folder, str(self.hang_seconds)],
                       Path(folder), progress, self.environment())  # fmt: skip
            from models.train import Expert

            return Expert.model_validate_json((Path(folder) / "expert.json").read_text())

    def command(self) -> list[str]:
        """The launcher; raises ValueError where it cannot start as many as are asked for."""
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            f"--nproc-per-node={self.local()}",
            "--max-restarts=0",
        ]  # fmt: skip  a fresh launch has a fresh store, which a restart has not
        if self.nodes == 1:
            return [*torchrun, "--standalone"]
        if "SLURM_JOB_ID" not in os.environ:
            raise ValueError(
                f"`nodes` is {self.nodes}, but this is no SLURM allocation, in which `srun` could start the others; "
                "submit the flow with sbatch, or train on a Ray cluster (`kind: ray`)"
            )
        srun = ["srun", f"--nodes={self.nodes}", f"--ntasks={self.nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit"]
        where = f"--rdzv-endpoint={socket.gethostname()}:{_free_port()}"
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

    def environment(self) -> dict[str, str]:
        """What the processes are given beside the variables of this one."""
        share = max(1, (os.cpu_count() or 1) // self.local())
        own = {"OMP_NUM_THREADS": str(share)} if "OMP_NUM_THREADS" not in os.environ else {}
        return own | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "PYTHONUNBUFFERED": "1"}


AnyLaunch = Annotated[Alone | Torchrun, Field(discriminator="kind")]


def _supervise(command: list[str], folder: Path, progress: Progress | None, environment: Mapping[str, str]) -> None:
    """Start processes, pass on what they report, and stop them all with this one."""
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True, preexec_fn=end_with_parent)  # fmt: skip
    last: list[str] = []
    try:
        for line in process.stdout:
            if (report := _report(line)) is None:
                log.debug("%s", line.rstrip())
                last = [*last, line.rstrip()][-LINES:]
            elif progress:
                progress(*report)
        process.wait()
    finally:
        _stop(process)
    if process.returncode:
        raise _error(folder, process.returncode, last)


def _stop(process: subprocess.Popen) -> None:
    """Let processes that still run store where they are, and end them."""
    if process.poll() is None:
        process.terminate()  # the launcher passes it on
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    process.stdout.close()


def _error(folder: Path, code: int, last: list[str]) -> Exception:
    """What a process raised, if that says more than that another one was gone."""
    for said in _errors(folder):
        if said["type"] in TOLD:
            return TOLD[said["type"]](said["message"])
    lines = "\n".join(last)
    return LaunchFailed(
        f"the training processes ended with code {code}: one died, or waited too long for another; run it again and it "
        f"goes on where it was saved last. What they said last:\n{lines}"
    )


def _errors(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("error-*.json")):
        yield json.loads(path.read_text())


def _report(line: str) -> tuple[int, int, float] | None:
    """(iterations done, in all, latest loss), if a line is a report."""
    if not line.startswith(REPORT):
        return None
    done, total, loss = json.loads(line.removeprefix(REPORT))
    return done, total, loss


REPORT = "evergreen-progress "  # what a line of progress begins with


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
