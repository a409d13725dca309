"""When a run of a living stream ends, told by what its last step took."""

import pytest

from models.evaluation.record import StageRecord
from tasks import run_progress as module
from tasks.run_progress import Left, run_progress


def stage(kind: str, seconds: float = 1.0, reused: bool = False) -> StageRecord:
    return StageRecord(stage=kind, label=f"{kind} 7", reused=reused, reason="", seconds=seconds)


@pytest.fixture
def shown(monkeypatch):
    """What is shown: (percent, text)."""
    told = []
    monkeypatch.setattr(module, "ARTIFACT_SECONDS", 0)
    monkeypatch.setattr(
        module, "create_progress_artifact", lambda percent, description: told.append((percent, description))
    )
    monkeypatch.setattr(
        module, "update_progress_artifact", lambda artifact, percent, description: told.append((percent, description))
    )
    return told


def test_what_is_left_is_what_the_stages_took_before():
    left = Left([("scan", 1.0), ("scan", 3.0), ("update_weights", 6.0)])
    left.end("scan")
    assert left.seconds == 9.0 and left.percent == pytest.approx(10)
    left.end("of another kind")
    left.end("update_weights")
    left.end("scan")
    assert left.seconds == 0 and left.percent == 99  # the run itself says when it is done


def test_a_first_run_says_what_it_does_and_not_when_it_ends(shown):
    with run_progress("s") as progress:
        progress.tell(stage("update_weights"))
    assert shown[1] == (0.0, "s: 1 stages have ended, the last: update_weights 7")


def test_the_next_run_knows_what_the_last_step_took(shown):
    with run_progress("s") as progress:
        progress.tell(stage("scan", 30))
        progress.tell(stage("update_weights", 90))
    with run_progress("s") as progress:
        progress.tell(stage("scan"))
    assert shown[-2] == (
        pytest.approx(25),
        "s: 1 stages have ended, the last: scan 7; about 90 s left, as the last step went",
    )
    with run_progress("s") as progress:  # a run without a step teaches nothing
        progress.tell(stage("scan"))
    assert "about 90 s left" in shown[-2][1] and shown[-1] == (100, "s: done, 1 stages ran, 0 were re-used")


def test_a_run_that_fails_is_not_called_done(shown):
    with pytest.raises(RuntimeError), run_progress("s") as progress:
        progress.tell(stage("scan"))
        raise RuntimeError
    assert all(percent < 100 for percent, _ in shown)
