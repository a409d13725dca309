"""One GPU runs one update, also of runs that know nothing of each other."""

import threading
from types import SimpleNamespace

import pytest
import torch

from tasks.device import alone_on_the_device, lock_of
from tasks.locks import is_held


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="made-up"))


def test_two_updates_take_turns(gpu):
    order = []

    def second() -> None:
        with alone_on_the_device():
            order.append("second")

    with alone_on_the_device():
        assert is_held(lock_of("made-up"))
        other = threading.Thread(target=second)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_an_update_that_fails_gives_the_device_back(gpu):
    with pytest.raises(RuntimeError), alone_on_the_device():
        raise RuntimeError("out of memory")
    assert not is_held(lock_of("made-up"))


def test_without_a_gpu_nobody_waits(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with alone_on_the_device():
        assert not list(tmp_path.iterdir())
