import fsspec
import pytest
import torch

from models import unfinished
from models.unfinished import SaveClock, SavedStates


def test_the_last_two_states_are_kept():
    states = SavedStates("key")
    for iteration in range(1, 5):
        states.save({"iteration": iteration}, iteration)
    assert sorted(path.name for path in states.folder.iterdir()) == ["00000003.pt", "00000004.pt"]
    assert states.latest() == {"iteration": 4}


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"nonsense"])
def test_a_damaged_state_gives_way_to_the_one_before_it(damage, caplog):
    states = SavedStates("key")
    for iteration in (1, 2):
        states.save({"iteration": iteration, "weights": torch.ones(100)}, iteration)
    newest = states.folder / "00000002.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    assert states.latest()["iteration"] == 1
    assert "00000002.pt does not read" in caplog.text


def test_nothing_is_left_of_a_step_that_is_done():
    states = SavedStates("key")
    states.save({"iteration": 1}, 1)
    states.remove()
    assert not states.folder.exists() and states.latest() is None


def test_a_state_is_due_after_iterations_or_seconds(monkeypatch):
    now = 0.0
    monkeypatch.setattr(unfinished.time, "monotonic", lambda: now)
    clock = SaveClock(seconds=10, iterations=3)
    assert [clock.tick() for _ in range(3)] == [False, False, True]
    clock.saved(1.0)
    now = 10.0
    assert clock.tick()


def test_saving_takes_no_more_than_its_share_of_the_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(unfinished.time, "monotonic", lambda: now)
    clock = SaveClock(None, None)
    clock.saved(3.0)  # as long as a large model takes on a slow disk
    now = 149.0
    assert not clock.tick()
    now = 150.0
    assert clock.tick()


def test_a_setting_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("EVERGREEN_SAVE_ITERATIONS", "often")
    with pytest.raises(ValueError, match="often"):
        SaveClock(None, None)


def test_another_machine_goes_on_from_a_state_in_object_storage(object_store, monkeypatch, tmp_path):
    fsspec.filesystem("s3").mkdir("unfinished-states")
    monkeypatch.setenv("EVERGREEN_STORE", "s3://unfinished-states/store")
    states = SavedStates("key")
    for iteration in range(1, 5):
        states.save({"iteration": iteration}, iteration)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
    assert SavedStates("key").latest() == {"iteration": 4}
    assert len(fsspec.filesystem("s3").find("unfinished-states")) == 2
    SavedStates("key").remove()
    assert fsspec.filesystem("s3").find("unfinished-states") == []
