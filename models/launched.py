"""What each process of a launch runs: `python -m models.launched`, started by models/launching with a job."""

import json
import os
from typing import Any

from models.launching import CUT, HANG, JOB, MARK, TELLING, Job


def main() -> None:
    """Train the job; the first process tells how far it is and what came of it, one that fails what it failed of."""
    is_first = os.environ.get("RANK", "0") == "0"
    try:
        job = Job.model_validate_json(os.environ[JOB])
        expert = job.train(lambda *now: _tell(progress=now), float(os.environ[HANG]), os.environ[CUT] == "True")
    except tuple(TELLING.values()) as error:
        _tell(**in_words(error))
        raise
    if is_first:
        _tell(expert=expert.model_dump(mode="json"))


def in_words(error: Exception) -> dict[str, str]:
    """An error that says what was found and what to do, for another process."""
    kind = next(name for name, kind in TELLING.items() if isinstance(error, kind))
    return {"error": kind, "message": str(error)}


def _tell(**message: Any) -> None:
    os.write(1, f"\n{MARK}{json.dumps(message)}\n".encode())  # whole, also where other processes write at the time


if __name__ == "__main__":
    main()
