"""Housekeeping as a flow, for a schedule: what `evergreen gc` does."""

from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from data_catalog.retention import KeepSpec
from flows.arriving import configured_at
from flows.environment import open_home
from flows.living_config import load_living
from models import living
from models.housekeeping import Housekeeping, keep_house
from models.needs import known_streams

ROWS = 50  # of what goes, in the artifact


@flow(name="housekeeping")
def housekeeping(
    config: Annotated[str | None, Field(examples=["flows/configs/living.yaml"])] = None, dry_run: bool = False
) -> Housekeeping:
    """Delete what the retention rules of living streams let go, and caches that were long not used.

    Safe beside running flows. What goes is made again when it is asked for.

    Args:
        config: A living stream's file; empty: every stream, by what it ran under last.
        dry_run: Only say what would go.
    """
    open_home()
    done = keep_house(policies_of(config), dry_run)
    get_run_logger().info(in_words(done))
    create_markdown_artifact(_page(done), key="housekeeping", description=in_words(done))
    return done


def policies_of(config: str | None) -> dict[str, KeepSpec]:
    """What the stream in a file keeps; without a file, what each stream of the store said when it last made a step."""
    if config is not None:
        stream = load_living(config)
        return {stream.name: stream.living.keep}
    last = {stream: living.last_step(stream) for stream in known_streams()}
    return {stream: configured_at(step, stream).living.keep for stream, step in last.items() if step is not None}


def in_words(done: Housekeeping) -> str:
    """What came of it, in one sentence."""
    size = sum(item.size for item in done.going)
    if done.dry_run:
        return f"{len(done.going)} things would go, {megabytes(size)}"
    if not done.beside_runs:
        return f"{len(done.going)} things are gone, {megabytes(done.freed)} are free"
    return (
        f"{len(done.going)} artifacts are in the trash beside runs at work, {megabytes(done.freed)} are free; "
        f"{megabytes(done.in_trash)} more will be when these runs have ended and housekeeping comes again"
    )


def megabytes(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e6:,.1f} MB"


def _page(done: Housekeeping) -> str:
    going = [f"| `{item.name[:19]}` | {item.what} | {megabytes(item.size)} | {item.why} |" for item in done.going]
    more = [f"and {len(going) - ROWS} more"] if len(going) > ROWS else []
    staying = [f"| {group.why} | {group.count} | {megabytes(group.size)} |" for group in done.staying]
    return "\n".join([
        "# Housekeeping", "", in_words(done), "", "| goes | what | size | why |", "|---|---|---:|---|",
        *going[:ROWS], "", *more, "", "| stays, since it is needed by | artifacts | size |", "|---|---:|---:|",
        *staying,
    ])  # fmt: skip
