"""Several processes train as one does: every method, whatever the loss, and whatever their number."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_catalog.refs import Spec
from data_catalog.store import read_table, write_table
from models import clip, train
from models.checkpoints import CheckpointRef, load
from models.updates import UpdateSpec
from tests.models.families import write_family

ROOT = Path(__file__).parents[2]
CASES = {
    "finetune": {},
    "in parts": {"accumulate": 2},
    "alike match": {"multi_positive": True, "label_smoothing": 0.1, "accumulate": 2},
    "ema": {"ema": 0.9},
    "lora": {"method": {"kind": "lora", "rank": 2}},
    "dora": {"method": {"kind": "dora", "rank": 2}, "accumulate": 2},
    "ewc": {"method": {"kind": "ewc", "fisher_samples": 16}},
    "si": {"method": {"kind": "si"}},
    "l2_sp": {"method": {"kind": "l2_sp"}},
    "lwf": {"method": {"kind": "lwf"}},
    "zscl": {"method": {"kind": "zscl", "texts": 8, "ensemble_every": 3}},
    "zscl in parts": {"method": {"kind": "zscl", "texts": 8, "ensemble_every": 3}, "accumulate": 2},
    "ctp": {"method": {"kind": "ctp", "queue": 12}},
    "galore": {"method": {"kind": "galore", "rank": 1}},  # more than a gradient has are directions of rounding
    "locked_image": {"method": {"kind": "locked_image"}},
    "wise_ft": {"method": {"kind": "wise_ft"}},
    "mer": {"method": {"kind": "mer", "every": 3}},
}
SHARDED = {"finetune": {}, "in parts": {"accumulate": 2, "ema": 0.9}, "bitfit": {"method": {"kind": "bitfit"}},
           "locked_text": {"method": {"kind": "locked_text"}}}  # fmt: skip
SIGMOID = {"finetune": {}, "in parts": {"accumulate": 2}, "alike match": {"multi_positive": True}}
SCRIPT = """
import json, sys
from data_catalog.stream import StepPlan
from data_catalog.refs import Spec
from data_catalog.store import read_table, write_table
from models import clip, train
from models.checkpoints import CheckpointRef
from models.parallel import joined
from models.updates import UpdateSpec
from tests.models.families import write_family
jobs, found = json.load(open(sys.argv[1])), {}
with joined(60) as ranks:
    for name, (init, plan, spec, teacher, sharded) in jobs.items():
        made = train.update(CheckpointRef(**init), StepPlan(**plan), UpdateSpec(**spec), 0,
                            CheckpointRef(**teacher) if teacher else None, sharded=sharded)
        found[name] = made.model_dump(mode="json")
    if ranks.is_first:
        json.dump(found, open(sys.argv[2], "w"))
"""


def of_spec(changes: dict) -> UpdateSpec:
    return UpdateSpec(lr=1e-3, precision="fp64", **changes)


def launched(jobs: dict, tmp_path: Path, processes: int = 2) -> dict:
    """What `processes` processes make of the jobs."""
    script, given, found = tmp_path / "script.py", tmp_path / "jobs.json", tmp_path / "found.json"
    script.write_text(SCRIPT)
    given.write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, script, given, found], env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
                          capture_output=True, text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(found.read_text())


@pytest.fixture
def mixed_plan(step_plan):
    """Five rows of the update pool and three of pretraining in every batch: the second process has the three."""
    table = read_table(step_plan.digest)
    pools = (["update"] * 5 + ["pretraining"] * 3) * 8
    digest = write_table(table.set_column(table.column_names.index("pool"), "pool", [pools]))
    return step_plan.model_copy(update={"digest": digest, "samples": {"update": 40, "buffer": 0, "pretraining": 24}})


def test_two_processes_train_every_method_as_one_does(tiny, mixed_plan, tmp_path):
    siglip = clip.import_checkpoint(write_family("siglip", tmp_path / "siglip"), None)
    cases = {name: (tiny, of_spec(changes)) for name, changes in CASES.items()}
    cases |= {f"siglip {name}": (siglip, of_spec(changes)) for name, changes in SIGMOID.items()}
    cases |= {f"in shards {name}": (tiny, of_spec(changes)) for name, changes in SHARDED.items()}
    cases |= {"in shards siglip": (siglip, of_spec({}))}
    teachers = {name: init if "pretrained" in spec.method.USES else None for name, (init, spec) in cases.items()}
    jobs = {name: [_plain(init), _plain(mixed_plan), _plain(spec), _plain(teachers[name]), name.startswith("in shards")]
            for name, (init, spec) in cases.items()}  # fmt: skip
    found, differences = launched(jobs, tmp_path), {}
    for name, (init, spec) in cases.items():
        alone = train.update(init, mixed_plan, spec, 0, teachers[name])
        differences[name] = apart(alone.checkpoint, train.Expert(**found[name]).checkpoint)
    assert not {name: far for name, far in differences.items() if far > 1e-10}


def _plain(value: Spec | None) -> dict | None:
    return value.model_dump(mode="json") if value else None


def apart(one: CheckpointRef, other: CheckpointRef) -> float:
    """The largest difference of any weight.

    But for the biases of attention's keys, which move no loss: their gradients are rounding, and a penalty that holds
    them makes Adam blow it up.
    """
    mine, theirs = (load(each) for each in (one, other))
    differences = {name: (mine[name] - theirs[name]).abs() for name in mine}
    for name, found in differences.items():
        if name.endswith("in_proj_bias"):
            found[len(found) // 3 : 2 * len(found) // 3] = 0
    return max(float(found.max()) for found in differences.values())
