"""Look what waits for a living stream, and have the step taken once there is enough: made to run on a schedule.

Watchers may be many, and may look at the same moment: the server makes one run of what they ask for, `living-stream`
runs one at a time, and the second of two finds nothing new.
"""

from prefect import flow, get_run_logger

from flows.environment import open_home
from flows.handing_over import Watched, said_of, watch_once
from flows.living_config import LivingConfig


@flow(name="watch")
def watch(config: LivingConfig | str, deployment: str | None = None) -> Watched:
    """Look once what has arrived for a living stream, and start `living-stream` if that makes a step.

    `config`: a living stream, or the path of its YAML file, e.g. flows/configs/living.yaml; `deployment`: the name of
    the `living-stream` deployment that takes the step, by default the one called like the stream, or the only one.
    Costs a listing of the sources; no file is opened. Without such a deployment the step is taken in this run.
    """
    open_home()  # a worker's process has no command before it that did
    watched = watch_once(config, deployment, _run_here)
    get_run_logger().info("%s: %s", watched.waiting.stream, said_of(watched))
    return watched


def _run_here(config: LivingConfig, now: bool) -> dict:
    from flows.living import living_stream

    return living_stream(config, now).model_dump(mode="json")
