"""What each process of a launch runs: `python -m models.launched FOLDER HANG_SECONDS`, started by models/launching."""

import json
import os
import sys
from pathlib import Path

from models.launching import REPORT, TOLD, Job


def main(folder: Path, hang_seconds: float) -> None:
    """Train the job of a folder; the first process leaves the expert there, one that fails what it failed of."""
    job = Job.model_validate_json((folder / "job.json").read_text())
    rank = os.environ.get("RANK", "0")
    try:
        expert = job.train(_report, hang_seconds)
    except tuple(TOLD.values()) as error:
        kind = next(name for name, kind in TOLD.items() if isinstance(error, kind))
        (folder / f"error-{rank}.json").write_text(json.dumps({"type": kind, "message": str(error)}))
        raise
    if rank == "0":
        (folder / "expert.json").write_text(expert.model_dump_json())


def _report(done: int, total: int, loss: float) -> None:
    print(REPORT + json.dumps([done, total, loss]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
