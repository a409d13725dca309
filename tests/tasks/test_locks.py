"""Locks that wait for the living and not for the dead."""

import subprocess
import sys
import threading

import pytest

from tasks.locks import FlockManager, exclusive, is_held


@pytest.fixture
def locks(tmp_path):
    return FlockManager(lambda: tmp_path / "locks")


def test_a_second_holder_waits_until_the_first_releases(locks):
    assert locks.acquire_lock("key", "first")
    assert not locks.acquire_lock("key", "second", acquire_timeout=0)
    threading.Timer(0.1, locks.release_lock, ["key", "first"]).start()
    assert locks.acquire_lock("key", "second", acquire_timeout=20)


def test_a_holder_may_ask_twice(locks):
    assert locks.acquire_lock("key", "first") and locks.acquire_lock("key", "first", acquire_timeout=0)


def test_only_the_holder_can_release(locks):
    locks.acquire_lock("key", "first")
    with pytest.raises(ValueError, match="held by first"):
        locks.release_lock("key", "second")


def test_waiting_ends_when_the_lock_is_free(locks):
    locks.acquire_lock("key", "first")
    assert locks.is_locked("key") and not locks.wait_for_lock("key", timeout=0)
    locks.release_lock("key", "first")
    assert not locks.is_locked("key") and locks.wait_for_lock("key", timeout=0)


def test_a_killed_holder_blocks_nobody(locks, tmp_path):
    script = (f"from pathlib import Path; from tasks.locks import FlockManager\n"
              f"FlockManager(lambda: Path({str(tmp_path / 'locks')!r})).acquire_lock('key', 'doomed')\n"
              f"print('held', flush=True); input()")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert locks.is_locked("key")
        holder.kill()
        holder.wait()
        assert locks.acquire_lock("key", "heir", acquire_timeout=5)


def test_a_lock_file_is_held_for_the_block_only(tmp_path):
    with exclusive(tmp_path / "lock"):
        assert is_held(tmp_path / "lock")
    assert not is_held(tmp_path / "lock")
