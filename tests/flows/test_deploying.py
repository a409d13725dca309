"""What prefect.yaml declares fits the flows, explains itself in the UI, and starts nothing unasked."""

import functools
import importlib
import json
import re
import uuid
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
import yaml

from data_catalog import alerts
from flows import deploying
from flows.telling import as_event
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


def test_an_alert_gets_from_its_event_what_its_form_asks_for():
    """As Prefect's server renders it; an id that is no string once made every alert fail, in the server's log alone."""
    from prefect.server.events.actions import RunDeployment
    from prefect.server.events.schemas.events import ReceivedEvent
    from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate

    told = alerts.Alert(id=uuid.uuid4(), event=alerts.HELD, stream="colours", message='a "held" step', step=0)
    event = ReceivedEvent(**as_event(told) | {"received": datetime.now(UTC)})
    run = SimpleNamespace(id=uuid.uuid4(), name="brave-fox")
    context = {"event": event, "flow_run": run, "deployment": SimpleNamespace(name="colours")}
    for trigger in next(each for each in DECLARED if flow_of(each).name == "alert")["triggers"]:
        given = deepcopy(trigger["parameters"])
        RunDeployment._upgrade_v1_templates(given)
        given = hydrate(given, HydrationContext(jinja_context=context, render_jinja=True))
        jsonschema.validate(given, form_at("flows/alert.py:alert"))
        assert given["stream"] == "colours" and given.get("step", 0) == 0


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
