"""Runs and housekeeping on one store: who waits for whom, and what can be had back."""

import subprocess
import sys

import pytest

from data_catalog import in_use, store, trash

RUN = "import sys; from data_catalog.in_use import in_use\nwith in_use(): print('in', flush=True); sys.stdin.read()"


class Run:
    """A run in another process, until it is ended."""

    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"in\n"

    def end(self, kill=False):
        self.process.kill() if kill else self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def run():
    started = []

    def start():
        started.append(Run())
        return started[-1]

    yield start
    for each in started:
        each.end(kill=True)


def is_alone() -> bool:
    with in_use.alone() as alone:
        return alone


def test_housekeeping_has_the_store_to_itself_only_while_no_run_is_at_work(run):
    assert is_alone()
    first = run()
    assert not is_alone()
    first.end(kill=True)  # the kernel drops the lock of the dead
    assert is_alone()


def test_a_batch_is_done_with_when_the_runs_that_began_before_it_have_ended(run):
    before = run()
    batch = in_use.next_batch()
    in_use.close_batch(batch)
    run()  # began later: what it needs of the batch it gets back
    assert not in_use.has_ended_before(batch)
    before.end()
    assert in_use.has_ended_before(batch)


def test_a_run_that_begins_while_a_batch_is_made_counts_as_earlier(run):
    batch = in_use.next_batch()
    run()
    in_use.close_batch(batch)
    assert not in_use.has_ended_before(batch)


def test_one_housekeeping_at_a_time():
    with (
        in_use.sole_housekeeping(),
        pytest.raises(ValueError, match="another `evergreen gc`"),
        in_use.sole_housekeeping(),
    ):
        pass


@pytest.mark.parametrize("ask", [store.read_bytes, store.locate, store.is_intact])
def test_what_was_thrown_away_comes_back_when_it_is_asked_for(ask):
    digest = store.write_bytes(b"wanted")
    trash.throw(store.path_of(digest), 1)
    assert digest not in store.stored_digests()
    assert ask(digest)
    assert digest in store.stored_digests() and trash.empty(1) == 0


def test_an_emptied_batch_is_gone_for_good():
    digest = store.write_bytes(b"unwanted")
    trash.throw(store.path_of(digest), 1)
    assert trash.empty(1) == len(b"unwanted") and trash.batches() == []
    assert not store.is_intact(digest)
