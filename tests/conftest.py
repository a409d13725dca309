"""What every test stands on: a home of its own, nothing sent anywhere, and one Prefect API for those that ask."""

import os
import tempfile

import pytest

from flows.environment import configure

for name in [name for name in os.environ if name.startswith("EVERGREEN_")]:
    del os.environ[name]  # the developer's places are none of ours
for name in ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)
SESSION_HOME = tempfile.TemporaryDirectory(prefix="evergreen-tests-")
os.environ["EVERGREEN_HOME"] = SESSION_HOME.name
os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
configure()  # before any test module imports prefect


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """A fresh home per test."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")


@pytest.fixture(scope="session")
def object_store():
    """An S3 server on the loopback, named in the environment for as long as the tests run."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    settings = {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())}
    settings |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield server
    server.stop()


@pytest.fixture(scope="session")
def prefect_backend(tmp_path_factory):
    """One Prefect API for all flow tests, which keeps no result of theirs."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    settings = {PREFECT_LOCAL_STORAGE_PATH: tmp_path_factory.mktemp("results"), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with prefect_test_harness(server_startup_timeout=180), temporary_settings(settings):
        yield
