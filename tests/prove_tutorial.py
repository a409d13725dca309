"""The tutorial does what it says: its commands, in order, in one shell, on a home of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OURS = ("EVERGREEN_", "PREFECT_", "MLFLOW_")  # whoever follows the tutorial has set none of them


def commands() -> str:
    """Every block of the page, as one would type it, but the first: that activates an environment, which a test has."""
    first, *rest = re.findall(r"^```\n(.*?)^```", (ROOT / "docs/tutorial.md").read_text(), flags=re.S | re.M)
    assert first == "source .venv/bin/activate\n"
    return "set -euo pipefail\n" + "".join(rest)


def test_every_command_works_in_order(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", commands()], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
    )
    print(done.stdout, done.stderr)  # shown where it failed
    assert done.returncode == 0
    assert "step 0: the gate says promote" in done.stdout and "(held)" in done.stdout
    ledger = (tmp_path / "tutorial/home/store/ledger/promotions-patterns.jsonl").read_text()
    assert re.findall(r'"deed": ?"(\w+)"', ledger) == ["start", "promote", "promote", "promote", "rollback"]
