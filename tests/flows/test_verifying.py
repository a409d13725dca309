"""What is named and gone, altered or contradictory is found; what is live decides the exit code."""

import json
import os

import fsspec
import pytest

from data_catalog import ledger, shared_files, store
from data_catalog.places import results_root
from data_catalog.store_files import write_atomically
from flows.verifying import verify
from models import clip, living
from tests.models.conftest import tiny_folder  # noqa: F401 a fixture
from tests.models.lives import STREAM, enter, finish_step


@pytest.fixture
def life(tiny_folder):  # noqa: F811
    """Began, promoted two steps; returns their weights and what the store made of the updates."""
    first, *weights = (clip.initialise(str(tiny_folder), seed) for seed in range(5))
    enter("start", first)
    steps = []
    for number in range(2):
        steps.append(finish_step(weights[2 * number], weights[2 * number + 1]))
        enter("promote", weights[2 * number], step=number)
    return steps


def damage(digest: str) -> None:
    """Turn one bit; size and times stay."""
    path = store.path_of(digest)
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_an_intact_store_is_sound_and_everything_named_was_read(life):
    found = verify()
    assert found.is_sound and found.findings == () and found.streams == (STREAM,)
    assert found.artifacts == len(set(store.stored_digests()))


@pytest.mark.parametrize("part", ["candidate", "backbone", "record", "arrival", "tokenizer"])
def test_what_the_live_model_and_its_next_step_need_is_alarming(life, part):
    merges = clip.read_description(life[1].candidate.backbone)["model_cfg"]["text_cfg"]["tokenizer_kwargs"]["bpe_path"]
    digest = {"candidate": life[1].candidate.digest, "backbone": life[1].candidate.backbone, "tokenizer": merges,
              "record": living.finished(STREAM)[1], "arrival": life[0].arrival.digest}[part]  # fmt: skip
    damage(digest)
    found = verify(STREAM)
    assert not found.is_sound and [(one.what, one.state) for one in found.findings if one.live] == [(digest, "damaged")]


def test_what_is_only_of_the_past_is_told_and_not_alarming(life):
    damage(life[0].candidate.digest)
    store.path_of(life[0].record.step_plan).unlink()
    found = verify()
    assert found.is_sound
    assert {(one.what, one.state) for one in found.findings} == {
        (life[0].candidate.digest, "damaged"), (life[0].record.step_plan, "missing")}  # fmt: skip
    assert any("compose_step makes it again" in one.remedy for one in found.findings)


def test_a_rollback_makes_other_weights_the_ones_that_count(life):
    damage(life[1].candidate.digest)
    assert not verify().is_sound
    enter("rollback", life[0].candidate, step=0, returns_to=1)
    assert verify().is_sound


def test_missing_weights_that_the_registry_holds_come_with_the_command_that_brings_them_back(life, own_home):
    from tasks import registry

    registry.agree(STREAM)
    store.path_of(life[1].candidate.digest).unlink()
    (finding,) = verify().findings
    assert finding.live and finding.remedy.startswith("the registry has it: cp ")
    os.system(finding.remedy.partition(": ")[2])
    assert verify().is_sound


def test_ledgers_that_contradict_each_other_are_told(life):
    enter("promote", life[0].candidate, step=1)
    (finding,) = verify().findings
    assert finding.state == "contradictory" and "not what step 1 proposed" in finding.remedy and finding.live


def test_a_damaged_ledger_is_told_and_the_rest_is_looked_at(life):
    path = ledger.path_of(f"living-{STREAM}")
    path.write_text("{}x\n" + path.read_text())
    found = verify()
    assert not found.is_sound and "line 1" in found.findings[0].remedy


def test_result_records_are_read_and_their_loss_is_no_alarm(life):
    digest = store.write_bytes(b"a plan", stage="compose_stream")
    write_atomically(results_root() / "compose_stream-1", b'{"result": "{\\"digest\\": \\"%s\\"}"}' % digest.encode())
    write_atomically(results_root() / "merge-2", b"{torn")
    damage(digest)
    found = verify()
    assert found.is_sound and {one.needed_by for one in found.findings} == {
        "a result of compose_stream", "re-use of merge"}  # fmt: skip
    assert len(verify(STREAM).findings) == 0


def test_an_unknown_stream_is_answered_with_the_known_ones(life):
    with pytest.raises(ValueError, match=f"no living stream 'cats'.*{STREAM}"):
        verify("cats")


def test_a_store_in_object_storage_is_read_whole(object_store, monkeypatch, tmp_path):
    driver = fsspec.filesystem("s3")
    driver.mkdir("verified")
    monkeypatch.setenv("EVERGREEN_STORE", "s3://verified/store")
    monkeypatch.setenv("EVERGREEN_RESULTS", "s3://verified/results")
    whole, damaged, gone = (store.write_bytes(name) for name in (b"whole", b"damaged", b"gone"))
    record = json.dumps({"result": json.dumps([whole, damaged, gone])}).encode()
    shared_files.write(results_root() / "stage-1", record)
    driver.pipe_file(f"verified/store/objects/{damaged[7:9]}/{damaged[7:]}", b"Damaged")
    driver.rm(f"verified/store/objects/{gone[7:9]}/{gone[7:]}")
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
    found = verify()
    assert found.artifacts == 3
    assert {finding.what: finding.state for finding in found.findings} == {damaged: "damaged", gone: "missing"}
