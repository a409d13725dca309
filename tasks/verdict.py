"""The verdict on a step of a living stream as an artifact of the run, and of the stream under one key."""

import json

from prefect.artifacts import create_markdown_artifact

from data_catalog import promotions
from data_catalog.store_files import write_atomically
from models import living
from models.verdict_page import verdict_page
from tasks.caching import uncached


@uncached(label="verdict {stream} step {step}")
def show_verdict(stream: str, step: int) -> None:
    """Write the page about a finished step, with what was decided about it by now."""
    done, decided = living.step_at(stream, step), promotions.decided(stream, step)
    create_markdown_artifact(
        verdict_page(stream, done, decided), key=f"verdict-{stream}", description=f"{stream}, step {step}"
    )


def show_last_verdict(stream: str) -> None:
    """Write the page about the newest step, unless a run has done so before: also after one that was killed."""
    last, mark = living.last_step(stream), living.file_of(stream, "shown.json")
    if last is None or (mark.is_file() and json.loads(mark.read_text())["step"] == last.step):
        return
    show_verdict(stream, last.step)
    write_atomically(mark, json.dumps({"step": last.step}).encode())
