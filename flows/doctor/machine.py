"""This machine: memory, GPUs, what trains on them, open files and the clock."""

import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data_catalog.disk import spoken
from flows.doctor.findings import Asked, Finding, fail, ok, warn

if TYPE_CHECKING:
    from models.launching import AnyLaunch  # which takes seconds to import

LEAST_MEMORY = 2 * 10**9  # an update of a small backbone, the server beside it
LEAST_FILES = 1024  # 128 data files of each process, sockets and databases
DEVICES = ("/dev/nvidiactl", "/dev/kfd")  # of a driver of NVIDIA's, of AMD's
DRIVER = Path("/proc/driver/nvidia/version")
CGROUP = Path("/sys/fs/cgroup")
OLDEST_BF16 = (8, 0)  # compute capability of the first GPUs that compute in bf16


def memory(asked: Asked) -> Iterator[Finding]:
    """What a run may take, the limit of a container included."""
    free = memory_left()
    if free < LEAST_MEMORY:
        yield warn("memory", f"{spoken(free)} available", f"at least {spoken(LEAST_MEMORY)}",
                   "stop other programs, raise the limit of the container, or take a smaller `batch_size`")  # fmt: skip
    else:
        yield ok("memory", f"{spoken(free)} available, {os.cpu_count()} cores")


def open_files(asked: Asked) -> Iterator[Finding]:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        yield warn("open files", f"{soft}", f"at least {LEAST_FILES}",
                   f"ulimit -n {LEAST_FILES} (this user may go to {hard}), or LimitNOFILE= in the unit")  # fmt: skip
    else:
        yield ok("open files", "unlimited" if soft == resource.RLIM_INFINITY else f"{soft}")


def clock(asked: Asked) -> Iterator[Finding]:
    """This machine's own clock: not before its own code was written, and not moved while we look."""
    written = Path(__file__).stat().st_mtime
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    jump = (time.time() - wall) - (time.monotonic() - steady)
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    if time.time() < written - 86400:
        yield fail(
            "clock", f"{now}, before this program was installed", "the present", "set the clock: chronyd or ntpd"
        )
    elif abs(jump) > 1:
        yield warn("clock", f"it was moved by {jump:+.0f} s while this ran", "a steady clock", "wait until it is set")
    else:
        yield ok("clock", now)


def gpus(asked: Asked) -> Iterator[Finding]:
    """Count, names, memory, driver, compute capability and bf16; torch is asked only where there is a driver."""
    if not has_driver():
        yield ok("GPUs", "none: updates and scores are computed on the CPU")
        return
    import torch

    driver = f"; {DRIVER.read_text().splitlines()[0].strip()}" if DRIVER.is_file() else ""
    if not torch.cuda.is_available():
        hidden = asked.environment.get("CUDA_VISIBLE_DEVICES")
        yield warn("GPUs", f"a driver is there, but torch {torch.__version__} sees no GPU" + driver,
                   "a build of torch for this driver",
                   f"look at CUDA_VISIBLE_DEVICES={hidden}" if hidden is not None else
                   "install the build of torch for the driver, or a driver for the build")  # fmt: skip
        return
    for index in range(torch.cuda.device_count()):
        yield _gpu(torch.cuda.get_device_properties(index), index, driver)
    yield _nccl(torch)


def training(asked: Asked) -> Iterator[Finding]:
    """Whether the processes that `execution.training` asks for can be started here."""
    if asked.config is None:
        return
    launch = asked.config.execution.training
    try:
        found = starts(launch)
    except ValueError as error:
        yield fail("execution.training", str(error), f"a machine on which `{launch.kind}` can start",
                   "correct `execution.training`, or run where it fits")  # fmt: skip
        return
    yield ok("execution.training", found)


def starts(launch: "AnyLaunch") -> str:
    """What a launch would start; raises ValueError where it cannot."""
    if not hasattr(launch, "command"):
        return f"{launch.kind}: nothing is to be checked before it starts"
    launch.command()
    return f"{launch.kind}: {launch.local()} processes on this machine"


def memory_left() -> int:
    """Bytes that a program may still take: of the machine, and of the control group it runs in."""
    text = Path("/proc/meminfo").read_text()
    free = int(text.partition("MemAvailable:")[2].split()[0]) * 1024
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and (most := limit.read_text().strip()) != "max":
        free = min(free, int(most) - int(used.read_text()))
    return free


def has_driver() -> bool:
    """Whether this machine has a driver of GPUs."""
    return any(Path(device).exists() for device in DEVICES)


def _gpu(properties, index: int, driver: str) -> Finding:
    capability = (properties.major, properties.minor)
    about = f"{properties.name}, {spoken(properties.total_memory)}, compute capability {'.'.join(map(str, capability))}"
    if capability < OLDEST_BF16:
        return warn(f"GPU {index}", about + driver, "bf16, from compute capability 8.0 on",
                    "set `precision: fp32` or fp16 in `update`, or take another GPU")  # fmt: skip
    return ok(f"GPU {index}", about + ", bf16" + driver)


def _nccl(torch) -> Finding:
    if not torch.distributed.is_available() or not torch.distributed.is_nccl_available():
        found = f"torch {torch.__version__} was built without it"
        return warn("NCCL", found, "NCCL, for training on several GPUs", "install the CUDA build of torch")
    return ok("NCCL", ".".join(map(str, torch.cuda.nccl.version())))
