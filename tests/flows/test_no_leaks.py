"""A run writes down no credential of its environment, wherever it writes; `make prove` does so for a team's servers."""

import asyncio
from pathlib import Path

import pytest

from data_catalog.places import home
from flows.living import living_stream
from tests.flows.living_streams import living_config, put

pytestmark = pytest.mark.usefixtures("prefect_backend")
SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY",
           "MLFLOW_TRACKING_PASSWORD", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "HF_TOKEN", "OPENAI_API_KEY",
           "RAY_AUTH_TOKEN")  # fmt: skip
MARK = "XCREDENTIALX"


async def told_to_the_server() -> str:
    """Every run, its parameters and state, and every artifact."""
    from prefect import get_client

    async with get_client() as client:
        found = [await read() for read in (client.read_flow_runs, client.read_task_runs, client.read_artifacts)]
    return "".join(each.model_dump_json() for kind in found for each in kind)


def marked(root: Path) -> list[str]:
    """The files below a folder in which a secret stands."""
    return [str(path) for path in root.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]


def test_a_run_writes_down_no_credential(monkeypatch, tmp_path, capfd):
    for name in SECRETS:
        monkeypatch.setenv(name, f"{MARK}{name}")
    put(tmp_path / "inbox", 0)
    assert living_stream(living_config(tmp_path / "inbox")).did == "step"
    told, printed = asyncio.run(told_to_the_server()), "".join(capfd.readouterr())
    assert "living" in told and MARK not in told + printed
    assert any(path.name == "mlflow.db" for path in home().iterdir()) and marked(home()) == []
    (home() / "planted").write_text(f"key={MARK}")  # the search is one that finds
    assert marked(home()) == [str(home() / "planted")]
