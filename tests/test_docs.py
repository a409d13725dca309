"""The README and the documents say what is true: its commands exist, its configs load, and every variant is in it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
import yaml

from data_catalog.buffers import AnyBuffer
from data_catalog.caption_policy import AnyChoice
from data_catalog.orderings import AnyOrdering
from data_catalog.pools import AnyPool
from data_catalog.sources import AnySource
from flows.cli import app
from flows.experiment import parse
from models.budget import AnyBudget
from models.captioning import AnyCaptioner
from models.captioning.seeds import AnySeeds
from models.captioning.writers import AnyWriter
from models.merging import AnyTechnique
from models.merging.search import AnySearch
from models.schedules import AnySchedule
from models.start import AnyStart
from models.updates import AnyMethod

ROOT = Path(__file__).parents[1]
README = "\n".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))))
UNIONS = {"captioner": AnyCaptioner, "ordering": AnyOrdering, "source": AnySource, "budget": AnyBudget,
          "choice": AnyChoice, "seeds": AnySeeds, "writer": AnyWriter, "buffer": AnyBuffer, "pool": AnyPool,
          "technique": AnyTechnique, "schedule": AnySchedule, "start": AnyStart, "method": AnyMethod,
          "search": AnySearch}  # fmt: skip


def members(union) -> list[type]:
    kinds = get_args(get_args(union)[0]) if get_args(union) else ()
    return list(kinds) or [union]


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.S | re.M)
    return [text for name, text in fenced if name == language]


def inline() -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.S))


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_configurations_shown_are_valid(block):
    demo = yaml.safe_load((ROOT / "flows/configs/demo.yaml").read_text())
    assert parse(demo | yaml.safe_load(block), "README.md")


def test_every_command_shown_exists():
    known = set(typer.main.get_command(app).commands)
    shown = set(re.findall(r"evergreen ([a-z]+(?:-[a-z]+)*)", "\n".join(blocks("") + inline())))
    assert shown and shown <= known and known <= shown


def test_every_make_target_shown_exists():
    shown = set(re.findall(r"make ([a-z]+)", "\n".join(blocks("") + inline())))
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {"demo", "test"} <= shown and shown <= {line.split()[0] for line in listed.splitlines()}


@pytest.mark.parametrize("kind", [(union, member) for union, of in UNIONS.items() for member in members(of)],
                         ids=lambda pair: f"{pair[0]}-{pair[1].__name__}")  # fmt: skip
def test_every_variant_is_in_the_readme_and_in_a_file_of_its_kind(kind):
    _, member = kind
    name = member.model_fields["kind"].default
    assert f"`{name}`" in README
    home = sys.modules[member.__module__].__file__
    shared = {
        "captions.py",
        "caption_policy.py",
        "seeds.py",
        "budget.py",
        "start.py",
        "search.py",
    }  # families small enough for one file
    assert Path(home).name in shared | {f"{name}.py"}
