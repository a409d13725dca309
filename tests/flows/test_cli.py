import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from flows import cli
from flows.experiment import load

SHARED = Path(__file__).parents[3] / "shared" / "fomo_in_flux"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the benchmark's files are not beside the repository")


COMMANDS = sorted(
    f"{name} {part}".strip()
    for name, command in typer.main.get_command(cli.app).commands.items()
    for part in getattr(command, "commands", [""])
)


@pytest.mark.parametrize("command", [[], *(name.split() for name in COMMANDS)])
def test_every_command_has_help_with_an_example(evergreen, command):
    code, out, _ = evergreen(*command, "--help")
    assert code == 0 and (not command or re.search("Examples?: evergreen", out))


def test_help_does_not_wait_for_heavy_imports():
    program = (
        "import sys; from flows import cli; sys.exit(bool({'torch', 'prefect', 'mlflow', 'duckdb'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_status_of_an_empty_home(evergreen):
    code, out, _ = evergreen("status", "--json")
    assert code == 0 and json.loads(out)["experiments"] == []


def test_a_report_that_is_not_there_is_bad_input(evergreen):
    code, out, err = evergreen("report")
    assert code == 2 and out == "" and "run one first" in err


def test_an_unknown_key_is_bad_input_with_its_name(evergreen, tmp_path):
    (tmp_path / "x.yaml").write_text(Path("flows/configs/demo.yaml").read_text() + "\nspeed: fast\n")
    code, _, err = evergreen("run", tmp_path / "x.yaml")
    assert code == 2 and "speed: Extra inputs are not permitted (found 'fast')" in err and "Traceback" not in err


def test_a_home_that_cannot_be_written_is_bad_input(evergreen, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "file" / "home"))
    code, _, err = evergreen("run", "flows/configs/demo.yaml")
    assert code == 2 and "cannot create" in err and "EVERGREEN_HOME" in err


@needs_shared
def test_compose_cuts_a_published_stream(evergreen):
    stream = SHARED / "streams" / "random_sequence_1.json.gz"
    code, out, _ = evergreen("compose", "--stream", stream, "--steps", "20", "--json")
    steps = json.loads(out)["steps"]
    assert code == 0 and [step["concepts"] for step in steps] == [920] + [919] * 19
    assert steps[0]["batch"] == {"pretraining": 253, "update": 259, "buffer": 0}
    assert steps[1]["batch"] == {"pretraining": 169, "update": 175, "buffer": 168}


@needs_shared
def test_metadata_of_the_benchmark_has_no_problems(evergreen):
    files = sorted((SHARED / "captions").glob("*_test.json.gz"))[:3]
    code, out, _ = evergreen("metadata", "check", *files)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(rows) == 3
    assert all(row["template_mismatches"] == 0 and row["problems"] == [] and row["entries"] > 0 for row in rows)


@pytest.mark.parametrize("mixture, message", [("1,1", "expected three shares"), (".5,.5,.5", "sums to 1.5")])
def test_a_mixture_that_makes_no_sense_is_bad_input(evergreen, tmp_path, mixture, message):
    (tmp_path / "stream.json").write_text('["MNIST+++0"]')
    code, _, err = evergreen("compose", "--stream", tmp_path / "stream.json", "--mixture", mixture)
    assert code == 2 and message in err


def test_an_interruption_says_how_to_go_on(evergreen, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    code, _, err = evergreen("demo")
    assert code == 130 and "goes on where this one stopped" in err


def test_the_demo_reads_the_shipped_experiment():
    assert load(cli.CONFIGS / "demo.yaml").name == "demo"
