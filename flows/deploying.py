"""The deployments of `prefect.yaml`, and of a user's own configurations made after them, put on a Prefect server."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import yaml

from data_catalog.refs import Spec
from flows.experiment import ExperimentConfig, load
from flows.handing_over import server
from flows.living_config import LivingConfig
from flows.server import LIGHT, TRAINING

ROOT = Path(__file__).parents[1]
TEMPLATES = {
    LivingConfig: "living",
    ExperimentConfig: "demo",
}  # names of those that a configuration's own are made after


class Deployed(Spec):
    """What is on the server now."""

    server: str
    pools: tuple[str, ...]
    deployments: tuple[str, ...]  # entrypoint and name


def deploy(configs: Sequence[str], pool: str | None = None, gpus: int = 1) -> Deployed:
    """Make pools, limits and deployments; doing so again changes nothing, or what was changed here.

    `configs`: files of living streams and experiments that get deployments called like them; `pool`: one for all of
    them, in place of one for each class; `gpus`: how many runs the pool for training takes at once. Raises ValueError
    if no server runs.
    """
    url = server()
    if url is None:
        raise ValueError("no Prefect server runs: start `evergreen ui`, or set PREFECT_API_URL to that of your team")
    wanted = declared()
    wanted["deployments"] += [each for path in configs for each in made_after(wanted["deployments"], path)]
    refuse_twins(wanted["deployments"])
    if pool:
        for each in wanted["deployments"]:
            each["work_pool"]["name"] = pool
    limits = {pool: None} if pool else {TRAINING: gpus, LIGHT: None}
    with tempfile.TemporaryDirectory(prefix="evergreen-deploy-") as folder:
        path = Path(folder) / "prefect.yaml"
        path.write_text(yaml.safe_dump(wanted, sort_keys=False))
        environment = os.environ | {"PREFECT_API_URL": url}
        for name, limit in limits.items():
            _make_pool(url, name, limit)
        _prefect(environment, "deploy", "--all", "--prefect-file", str(path))
    names = tuple(f"{each['entrypoint'].partition(':')[2]}/{each['name']}" for each in wanted["deployments"])
    return Deployed(server=url, pools=tuple(limits), deployments=names)


def declared() -> dict:
    """What prefect.yaml says, its anchors resolved."""
    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    found.pop("definitions")
    return deepcopy(found)


def made_after(templates: Sequence[dict], path: str) -> list[dict]:
    """The deployments of one configuration, called like it; raises ValueError if the file is not valid."""
    config = load(path)
    kind = type(config)
    of_kind = [each for each in templates if each["name"] == TEMPLATES[kind]]
    if kind is ExperimentConfig and config.evaluation.validation is None:  # nothing to choose merges by
        of_kind = [each for each in of_kind if "merge_search" not in each["entrypoint"]]
    return [_own(each, config.name, str(Path(path).resolve())) for each in of_kind]


def refuse_twins(deployments: Sequence[dict]) -> None:
    """Raise ValueError if two deployments of one flow have one name: the second would silently take the place."""
    names = [(each["entrypoint"], each["name"]) for each in deployments]
    if twice := sorted({name for entrypoint, name in names if names.count((entrypoint, name)) > 1}):
        raise ValueError(
            f"deployments of {', '.join(twice)} are there twice: `name` in each file must differ from the others and "
            "from those in prefect.yaml"
        )


def _own(template: dict, name: str, path: str) -> dict:
    own = deepcopy(template) | {"name": name}
    values = {"config": path, "stream": name}
    own["parameters"] = {key: values.get(key, value) for key, value in template["parameters"].items()}
    for trigger in own.get("triggers", ()):
        trigger["name"] = trigger["name"].replace(template["name"], name)
        trigger["match"] = {"prefect.resource.id": f"evergreen.stream.{name}"}
    return own


def _make_pool(url: str, name: str, limit: int | None) -> None:
    """A pool of processes of that name, unless there is one of any type; the limit is set in both cases."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.workers.process import ProcessWorker

    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        template = ProcessWorker.get_default_base_job_template()
        try:
            client.read_work_pool(name)
            client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=limit))
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template,
                                                   concurrency_limit=limit))  # fmt: skip


def _prefect(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"`prefect {' '.join(arguments)}` failed:\n{(done.stdout + done.stderr)[-2000:]}")
