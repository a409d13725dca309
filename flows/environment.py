"""The environment of our processes: everything in one home, nothing sent anywhere; set before prefect is imported."""

import os
import re
from pathlib import Path

from data_catalog.files import absolute
from data_catalog.places import home
from data_catalog.store_files import make_folder

LAKE = re.compile("(ducklake:)?(.*)", re.DOTALL)  # a catalog that is no file; what follows may be the path of one
SILENT = {  # who would otherwise call out
    "DO_NOT_TRACK": "true",  # Prefect's SDK; MLflow honours only the literal `true`
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_V2_ENABLED": "false",  # its pages fetch a configuration from Amplitude
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
RECORDING = {  # with the default batches of one, the history of a run takes three times as long to be written
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "50",
}
QUIET = {  # the stages' own lines still reach the run's page: only the console is quiet
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven processes of 190 MB each
}
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}  # a server that is down holds a run up for seconds, not minutes


def open_home() -> None:
    """Configure, and make the folder that everything goes into; raises ValueError if it cannot be written to."""
    configure()
    make_folder(Path(os.environ["PREFECT_HOME"]))


def configure() -> None:
    """Fill the gaps of the environment; what the user has set stays. Costs nothing: no import, no file."""
    for name in [name for name, value in os.environ.items() if name.startswith("EVERGREEN_") and not value]:
        del os.environ[name]  # as templates leave what nobody fills in
    for name in ("EVERGREEN_STORE", "EVERGREEN_CATALOG", "EVERGREEN_CATALOG_DATA", "EVERGREEN_RESULTS"):
        kind, path = LAKE.fullmatch(os.environ.get(name, "")).groups()
        if path and (":" if kind else "://") not in path:
            os.environ[name] = (kind or "") + absolute(path)  # a child process may run in another folder
    os.environ["EVERGREEN_HOME"] = str(home())
    places = {"PREFECT_HOME": str(home() / "prefect"), "MLFLOW_TRACKING_URI": f"sqlite:///{home() / 'mlflow.db'}"}
    for name, value in (places | SILENT | RECORDING | QUIET | PATIENCE).items():
        os.environ.setdefault(name, value)
