"""What `evergreen doctor` prints, keeps to itself, and makes of checks that hang or break."""

import json
import threading
from importlib import metadata
from pathlib import Path

import pytest

from flows.doctor import packages
from flows.doctor.examination import CHECKS, examine
from flows.doctor.findings import Asked, cleaned, fail, ok
from tests.flows.living_streams import put, written

DOCUMENT = Path(__file__).parents[2] / "docs/operations/doctor.md"


def states(findings) -> dict[str, str]:
    return {each.name: each.state for each in findings}


def test_a_fresh_home_is_fine_and_stays_untouched(evergreen, tmp_path):
    code, out, _ = evergreen("doctor", "--json")
    found = json.loads(out)
    assert code == 0 and found["fail"] == 0 and len(found["findings"]) > 12
    assert not (tmp_path / "home").exists()


def test_a_configuration_is_looked_at_too(evergreen, tmp_path):
    put(tmp_path / "inbox", 0)
    code, out, _ = evergreen("doctor", written(tmp_path / "mine.yaml", tmp_path / "inbox"))
    assert code == 0 and "source inbox: 1 datasets, 12 files" in out and "execution.training: alone" in out


def test_what_would_stop_a_run_ends_with_code_one(evergreen, monkeypatch):
    monkeypatch.setenv("EVERGREEN_DISK_RESERVE", "9999 TB")
    code, out, _ = evergreen("doctor")
    assert code == 1 and "FAIL  free disk" in out and "do: make room" in out


def test_a_file_that_is_none_ends_with_code_two(evergreen, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: x")
    assert evergreen("doctor", tmp_path / "bad.yaml")[0] == 2
    assert evergreen("doctor", tmp_path / "absent.yaml")[0] == 2


def test_a_check_that_hangs_is_a_finding():
    stuck = threading.Event()

    def stuck_disk(asked):
        stuck.wait()
        return []

    found = examine(Asked({}), [stuck_disk, lambda asked: [ok("quick", "yes")]], longest=0.3)
    stuck.set()
    assert states(found) == {"stuck disk": "fail", "quick": "ok"}


def test_a_check_that_breaks_is_a_finding():
    def odd(asked):
        raise KeyError("what")

    (found,) = examine(Asked({}), [odd])
    assert found.state == "fail" and "KeyError" in found.found


SECRETS = {
    "PREFECT_API_URL": "http://someone:PREFECTSECRET@127.0.0.1:9/api?sig=QUERYSECRET",
    "PREFECT_API_AUTH_STRING": "admin:AUTHSECRET", "PREFECT_API_KEY": "pnu_KEYSECRET",
    "MLFLOW_TRACKING_URI": "http://someone:MLFLOWSECRET@127.0.0.1:9",
    "MLFLOW_TRACKING_USERNAME": "someone", "MLFLOW_TRACKING_PASSWORD": "TRACKINGSECRET",
    "MLFLOW_BACKEND_STORE_URI": "postgresql://someone:PG%2FSECRET@127.0.0.1:9/mlflow",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://someone:DATABASESECRET@127.0.0.1:9/prefect",
    "AWS_ACCESS_KEY_ID": "IDSECRET", "AWS_SECRET_ACCESS_KEY": "STORAGESECRET", "AWS_SESSION_TOKEN": "SESSIONSECRET",
    "AWS_ENDPOINT_URL": "http://someone:ENDPOINTSECRET@127.0.0.1:9", "HF_TOKEN": "HUBSECRET",
    "EVERGREEN_STORE": "unknown://someone:STORESECRET@bucket/x?sig=SIGSECRET",
}  # fmt: skip


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_no_secret_is_ever_printed(evergreen, monkeypatch, options):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    code, out, err = evergreen("doctor", *options)
    assert code == 1 and "SECRET" not in out + err and "127.0.0.1:9" in out


def test_every_text_of_a_finding_is_cleaned():
    secret = {"SOME_TOKEN": "abcd1234"}
    (found,) = examine(Asked(secret), [lambda asked: [fail("x abcd1234", "abcd1234", "abcd1234", "abcd1234")]])
    assert "abcd1234" not in found.model_dump_json()


def test_addresses_stay_readable():
    assert cleaned("see s3://bucket/a?versionId=1 and http://u:p@host:1/x", {}) == (
        "see s3://bucket/a?*** and http://***@host:1/x"
    )
    assert cleaned("not hidden: true", {"X_AUTH_ENABLED": "true"}) == "not hidden: true"


@pytest.mark.parametrize("name, version", [("fastapi", "0.150.0"), ("sqlalchemy", "2.1.0"), ("duckdb", "1.4.0"),
                                           ("prefect", "3.9.0")])  # fmt: skip
def test_a_package_outside_its_range_fails(monkeypatch, name, version):
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda each: version if each == name else installed(each))
    (found,) = packages.packages(Asked({}))
    assert (found.name, found.state, found.found) == (f"package {name}", "fail", version)
    assert packages.WHY.get(name, "") in found.expected


def test_a_package_that_is_missing_fails(monkeypatch):
    installed = packages.version
    monkeypatch.setattr(packages, "version", lambda each: None if each == "mlflow" else installed(each))
    assert states(packages.packages(Asked({}))) == {"package mlflow": "fail"}


@pytest.mark.parametrize("versions, state", [
    ({"torchvision": "0.1.0"}, "warn"), ({"torch": "1.0.0"}, "fail"), ({"torch": None}, "fail"),
    ({"torch": "2.15.0+cu130", "torchvision": "0.29.2"}, "fail"), ({}, "ok"),
])  # fmt: skip
def test_torch_and_torchvision_are_a_pair(monkeypatch, versions, state):
    installed = packages.version
    monkeypatch.setattr(packages, "version", lambda each: versions.get(each, installed(each)))
    (found,) = packages.torch_pair(Asked({}))
    assert found.state == state


def test_an_old_python_fails(monkeypatch):
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.4")
    assert states(packages.python(Asked({}))) == {"python": "fail"}


def test_telemetry_that_was_switched_on_is_told(monkeypatch):
    switches = dict(packages.SILENT) | {"DO_NOT_TRACK": "1"}  # which MLflow does not honour
    (found,) = packages.telemetry(Asked(switches))
    assert found.state == "warn" and found.found == "DO_NOT_TRACK=1"
    assert states(packages.telemetry(Asked(packages.SILENT))) == {"telemetry": "ok"}


def test_every_check_is_in_the_document():
    text = DOCUMENT.read_text()
    assert [check.__name__ for check in CHECKS if f"`{check.__name__}`" not in text] == []
