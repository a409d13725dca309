"""What lies in `deploy` fits together: it loads, is pinned, shut off, free of secrets, and names what exists."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = [*yaml.safe_load_all((DEPLOY / "kubernetes/evergreen.yaml").read_text())]
RAY = yaml.safe_load((DEPLOY / "kubernetes/raycluster.yaml").read_text())
TEMPLATE = json.loads((DEPLOY / "kubernetes/base-job-template.json").read_text())
IMAGE = "evergreen:" + tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
TEXTS = {path: path.read_text() for path in sorted(DEPLOY.rglob("*")) if path.is_file() and path.suffix != ".pyc"}
SAID = "\n".join(path.read_text() for folder in ("flows", "tasks", "models", "data_catalog", "docs")
                 for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md"))  # fmt: skip
SECRET = re.compile(r"(PASSWORD|SECRET|AUTH_STRING|TOKEN|ACCESS_KEY|CONNECTION_URL|STORE_URI)")


def pods() -> dict[str, dict]:
    """The specification of every pod, by what it is for."""
    deployment = next(each for each in MANIFESTS if each["kind"] == "Deployment")
    groups = {group["groupName"]: group["template"]["spec"] for group in RAY["spec"]["workerGroupSpecs"]}
    job = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    head = RAY["spec"]["headGroupSpec"]["template"]["spec"]
    return {"worker": deployment["spec"]["template"]["spec"], "job": job, "head": head, **groups}


def rendered(**values) -> dict:
    """The job that Prefect makes of the template; its own functions put the values in."""
    from prefect.utilities.templating import apply_values

    properties = TEMPLATE["variables"]["properties"]
    defaults = {name: each["default"] for name, each in properties.items() if "default" in each}
    given = {"name": "run", "command": ["prefect", "flow-run", "execute"], "job_watch_timeout_seconds": None}
    return apply_values(TEMPLATE["job_configuration"], defaults | given | values)


def test_services_need_only_what_is_there():
    services, volumes = COMPOSE["services"], COMPOSE["volumes"]
    for service in services.values():
        needed = service.get("depends_on", {})
        assert set(needed) <= set(services)
        named = [volume.split(":")[0] for volume in service.get("volumes", []) if volume[0] not in "$./"]
        assert set(named) <= set(volumes)
        assert service.get("image") and (service.get("command") or service.get("healthcheck"))


def test_a_service_that_is_waited_for_says_when_it_is_healthy():
    services = COMPOSE["services"]
    waits = {name for service in services.values() if isinstance(service.get("depends_on"), dict)
             for name, how in service["depends_on"].items() if how["condition"] == "service_healthy"}  # fmt: skip
    assert waits and all("healthcheck" in services[name] for name in waits)


def test_pages_are_reachable_from_the_machine_itself_alone():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    assert RAY["spec"]["headGroupSpec"]["serviceType"] == "ClusterIP" and RAY["spec"]["authOptions"]["mode"] == "token"
    assert not [each for each in MANIFESTS if each["kind"] in ("Service", "Ingress")]


def test_every_image_has_a_version():
    images = {service["image"] for service in COMPOSE["services"].values()}
    images |= {container["image"] for pod in pods().values() for container in pod["containers"]}
    images |= {TEMPLATE["variables"]["properties"]["image"]["default"]} - {"{{ image }}"}
    assert {each for each in images if each.startswith("evergreen")} == {IMAGE}
    assert all(re.search(r":\d|:RELEASE", each) or each == "{{ image }}" for each in images)
    bases = re.findall(r"^FROM (\S+)", TEXTS[DEPLOY / "Dockerfile"], re.MULTILINE)
    assert bases and all(re.search(r":\d", base) for base in bases)


def test_no_secret_stands_in_a_file():
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items() if "environment" in service else ():
            if SECRET.search(name) and name != "AWS_ACCESS_KEY_ID":  # a name, not a key
                assert re.search(r"\$\{EVERGREEN_\w+:\?", value), name
        assert not re.search(r"PASSWORD|:[^@/\s]+@", " ".join(map(str, service.get("command", []))))
    empty = re.findall(r"^(\w+)=(.*)$", TEXTS[DEPLOY / "team.env.example"], re.MULTILINE)
    assert empty and not any(value for _, value in empty)
    assert not [each for each in [*MANIFESTS, RAY] if each["kind"] == "Secret"]


def test_variables_that_are_asked_for_are_in_the_example():
    asked = set(re.findall(r"\$\{(\w+)", TEXTS[DEPLOY / "compose.yaml"]))
    assert asked == set(re.findall(r"^(\w+)=", TEXTS[DEPLOY / "team.env.example"], re.MULTILINE))


def test_variables_of_ours_are_known_to_the_program_or_the_example():
    named = {name for text in TEXTS.values() for name in re.findall(r"\bEVERGREEN_[A-Z_]+[A-Z]\b", text)}
    example = set(re.findall(r"^(\w+)=", TEXTS[DEPLOY / "team.env.example"], re.MULTILINE))
    assert named and {name for name in named if name not in SAID} <= example


def test_variables_of_prefect_are_settings_that_it_has():
    from prefect.settings.legacy import _get_settings_fields
    from prefect.settings.models.root import Settings

    named = {name for path, text in TEXTS.items() if path.name != "local_team.py"
             for name in re.findall(r"\bPREFECT_[A-Z_0-9]+\b", text)}  # fmt: skip
    of_the_worker = {name for name in named if name.startswith("PREFECT_INTEGRATIONS_KUBERNETES_")}
    assert named and named - of_the_worker <= set(_get_settings_fields(Settings))


@pytest.mark.parametrize("name", ["worker", "job", "head", "gpu", "cpu"])
def test_no_pod_runs_as_root_or_without_limits(name):
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == 1000
    for container in pod["containers"]:
        assert container["image"] and container["resources"]["requests"]["cpu"]
        assert container["resources"]["limits"]["memory"]
        assert container["envFrom"], "addresses and keys come from a secret"


def test_the_worker_of_a_cluster_keeps_the_password_out_of_its_jobs():
    prefix = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_"
    for container in pods()["worker"]["containers"]:
        (source,) = container["envFrom"]
        given = {each["name"]: each["value"] for each in container["env"]}
        assert given == {f"{prefix}NAME": source["secretRef"]["name"], f"{prefix}KEY": "PREFECT_API_AUTH_STRING"}


def test_claims_and_accounts_that_are_used_exist():
    def called(kind):
        return {each["metadata"]["name"] for each in MANIFESTS if each["kind"] == kind}

    specs = [spec for name, spec in pods().items() if name != "job"]
    specs.append(rendered()["job_manifest"]["spec"]["template"]["spec"])
    for spec in specs:
        claims = [v["persistentVolumeClaim"]["claimName"] for v in spec.get("volumes", []) if len(v) == 2
                  and "persistentVolumeClaim" in v]  # fmt: skip
        assert set(claims) <= called("PersistentVolumeClaim") and spec["serviceAccountName"] in called("ServiceAccount")
        mounted = {mount["name"] for each in spec["containers"] for mount in each.get("volumeMounts", [])}
        assert mounted == {volume["name"] for volume in spec.get("volumes", [])}
    assert all(each["metadata"].get("namespace", "evergreen") == "evergreen" for each in [*MANIFESTS, RAY])


def test_the_job_template_makes_a_job_of_each_run():
    job = rendered(gpus=2, node_selector={"gpu": "h200"}, env={"A": "b"})["job_manifest"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job") and container["image"] == IMAGE
    assert {kind["nvidia.com/gpu"] for kind in container["resources"].values()} == {2}
    assert pod["nodeSelector"] == {"gpu": "h200"} and pod["restartPolicy"] == "Never"
    assert "{{" not in json.dumps(job)


def test_every_variable_of_the_template_is_used_and_every_one_used_is_there():
    used = set(re.findall(r"{{ (\w+) }}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == set(TEMPLATE["variables"]["properties"])


def test_ray_has_the_version_of_the_lock_and_workers_with_gpus():
    locked = re.search(r"^ray==(.+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    assert RAY["apiVersion"] == "ray.io/v1" and RAY["spec"]["rayVersion"] == locked
    groups = {group["groupName"]: group for group in RAY["spec"]["workerGroupSpecs"]}
    (container,) = groups["gpu"]["template"]["spec"]["containers"]
    assert (
        container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"] == 1
    )
    assert all(0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups.values())


def test_the_image_of_a_lake_has_the_versions_of_the_extra():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["ducklake"]
    assert set(re.findall(r"duckdb[\w-]*==[\d.]+", TEXTS[DEPLOY / "Dockerfile"])) == set(extra)
    assert COMPOSE["x-evergreen"]["build"]["args"] == {"LAKE": "${EVERGREEN_CATALOG:-}"}


def test_databases_of_the_examples_are_made():
    made = set(re.findall(r"CREATE DATABASE (\w+)", "".join(TEXTS[path] for path in TEXTS if path.suffix == ".sql")))
    named = re.findall(
        r"@postgres/(\w+)|dbname=(\w+)", TEXTS[DEPLOY / "compose.yaml"] + TEXTS[DEPLOY / "team.env.example"]
    )
    assert {one or other for one, other in named} == made | {
        COMPOSE["services"]["postgres"]["environment"]["POSTGRES_DB"]
    }


def test_the_image_has_everything_that_is_imported_and_no_root():
    text = TEXTS[DEPLOY / "Dockerfile"]
    copied = {word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for word in line.split()}
    assert {"flows", "tasks", "models", "data_catalog", "requirements.lock", "prefect.yaml"} <= copied
    assert all((ROOT / name).exists() for name in copied)
    assert re.search(r"^USER (?!root)", text, re.MULTILINE)


def test_a_missing_postgresql_is_told_with_its_package(monkeypatch):
    from deploy import local_team

    monkeypatch.setattr(local_team.glob, "glob", lambda pattern: [])
    monkeypatch.setattr(local_team.shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="apt-get install postgresql"):
        local_team._binary("initdb")
