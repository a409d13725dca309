"""What prefect.yaml declares fits the flows, explains itself in the UI, and starts nothing unasked."""

import functools
import importlib
import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from flows import deploying
from tests.flows.living_streams import written

ROOT = Path(__file__).parents[2]
DECLARED = deploying.declared()["deployments"]
FLOWS = {"continual-pretrain", "living-stream", "watch", "ingest", "evaluate", "merge-search", "promote", "reject",
         "rollback", "housekeeping", "alert"}  # fmt: skip


def flow_of(deployment: dict):
    path, name = deployment["entrypoint"].split(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)


def form_of(deployment: dict) -> dict:
    """The schema that Prefect makes its form of."""
    return form_at(deployment["entrypoint"])


@functools.cache
def form_at(entrypoint: str) -> dict:
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(flow_of({"entrypoint": entrypoint})).model_dump()


each_deployment = pytest.mark.parametrize("deployment", DECLARED, ids=lambda each: each["entrypoint"])


def test_every_flow_has_a_deployment():
    assert {flow_of(each).name for each in DECLARED} == FLOWS


@each_deployment
def test_every_field_of_a_form_is_explained(deployment):
    assert [name for name, field in form_of(deployment)["properties"].items() if not field.get("description")] == []


@each_deployment
def test_the_parameters_given_pass_the_check_of_the_server(deployment):
    form, given = form_of(deployment), deployment.get("parameters", {})
    jsonschema.validate(given, form | {"required": [name for name in form.get("required", []) if name in given]})
    assert set(given) <= set(form["properties"])


@each_deployment
def test_nothing_starts_before_someone_resumes_a_schedule(deployment):
    assert not any(schedule["active"] for schedule in deployment.get("schedules", []))


@each_deployment
def test_what_trains_has_a_pool_of_its_own(deployment):
    trains = flow_of(deployment).name in ("continual-pretrain", "living-stream", "evaluate", "merge-search")
    assert deployment["work_pool"]["name"] == (deploying.TRAINING if trains else deploying.LIGHT)
    settings = deployment["work_pool"]["job_variables"]["env"]
    assert json.loads(settings["PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS"]) == [10, 60, 300]


def test_a_living_stream_gets_deployments_called_like_it(tmp_path):
    own = deploying.made_after(DECLARED, str(written(tmp_path / "mine.yaml", tmp_path, name="colours")))
    flows = {flow_of(each).name: each for each in own}
    assert set(flows) == {"living-stream", "watch", "promote", "reject", "rollback"}
    assert {each["name"] for each in own} == {"colours"}
    assert flows["watch"]["parameters"]["config"] == str(tmp_path / "mine.yaml")
    assert flows["promote"]["parameters"]["stream"] == "colours"
    assert flows["living-stream"]["triggers"][0]["match"] == {"prefect.resource.id": "evergreen.stream.colours"}


def test_an_experiment_gets_its_own_and_no_search_where_it_keeps_no_images_for_one():
    own = deploying.made_after(DECLARED, str(ROOT / "flows/configs/own_data.yaml"))
    assert {flow_of(each).name for each in own} == {"continual-pretrain", "ingest", "evaluate"}


def test_two_streams_of_one_name_are_refused(tmp_path):
    own = deploying.made_after(DECLARED, str(written(tmp_path / "mine.yaml", tmp_path, name="living")))
    with pytest.raises(ValueError, match="living are there twice"):
        deploying.refuse_twins([*DECLARED, *own])


def test_without_a_server_it_says_what_to_do(evergreen):
    code, _, said = evergreen("deploy")
    assert code == 2 and "evergreen ui" in said


def test_a_team_installation_is_reached_from_its_own_machine_alone():
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published and all(port.startswith("127.0.0.1:") for port in published)


def test_the_file_of_passwords_holds_none():
    lines = (ROOT / "deploy/team.env.example").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#") and not line.endswith("=")] == []


def test_the_job_of_a_cluster_uses_each_variable_that_its_form_asks_for():
    template = json.loads((ROOT / "deploy/kubernetes/base-job-template.json").read_text())
    asked, used = set(template["variables"]["properties"]), json.dumps(template["job_configuration"])
    assert asked == set(re.findall(r"{{ (\w+) }}", used))
