"""Look what waits for a living stream, and have the step taken once there is enough: made to run on a schedule.

Watchers may be many, and may look at the same moment: the server makes one run of what they ask for, `living-stream`
runs one at a time, and the second of two finds nothing new.
"""

from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from flows.environment import open_home
from flows.forms import GivenStream
from flows.handing_over import Watched, said_of, watch_once
from flows.living_config import LivingConfig


@flow(name="watch")
def watch(config: GivenStream, deployment: Annotated[str | None, Field(examples=["demo"])] = None) -> Watched:
    """Look once what has arrived for a living stream, and start `living-stream` if that makes a step.

    Costs a listing of the sources; no file is opened.

    Args:
        config: A living stream, or the path of its YAML file.
        deployment: Name of the living-stream deployment that takes the step; empty: the one called like the stream, or
            the only one. Where there is none at all, the step is taken in this run.
    """
    open_home()  # a worker's process has no command before it that did
    watched = watch_once(config, deployment, _run_here)
    get_run_logger().info("%s: %s", watched.waiting.stream, said_of(watched))
    return watched


def _run_here(config: LivingConfig, now: bool) -> dict:
    from flows.living import living_stream

    return living_stream(config, now).model_dump(mode="json")
