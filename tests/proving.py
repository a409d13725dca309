"""What the long proofs share: the commands of this environment, and workers that end with a block."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from data_catalog.processes import stop

ROOT = Path(__file__).parents[1]


def command(name: str) -> str:
    """The path of an installed command of this environment."""
    return str(Path(sys.executable).with_name(name))


def prefect(*arguments: str) -> None:
    """Run the command `prefect` in the repository, as a user would."""
    subprocess.run([command("prefect"), *arguments], check=True, cwd=ROOT)


@contextlib.contextmanager
def worker(pool: str) -> Iterator[None]:
    """A process worker for the block."""
    process = subprocess.Popen([command("prefect"), "worker", "start", "--pool", pool], cwd=ROOT)
    try:
        yield
    finally:
        stop(process, 30)
