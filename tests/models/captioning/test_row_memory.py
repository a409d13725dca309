"""Answers kept row by row."""

import logging
from hashlib import sha256

import pytest

from models.captioning import row_memory
from models.captioning.row_memory import RowMemory, Said, answered

KEYS = [sha256(bytes([i])).digest() for i in range(5)]


def counting(asked):
    def ask(missing):
        for place in missing:
            asked.append(place)
            yield [(place, Said((f"text {place}",), 2, 1))]

    return ask


def test_a_question_is_asked_once():
    asked = []
    told = [answered("c:1", [*KEYS, KEYS[0]], counting(asked), "x", None) for _ in range(2)]
    assert asked == [0, 1, 2, 3, 4] and told[0] == told[1]
    assert told[0][5] == told[0][0] == Said(("text 0",), 2, 1)


def test_captioners_do_not_share_answers():
    asked = []
    for captioner in ("c:1", "c:2"):
        answered(captioner, KEYS[:2], counting(asked), "x", None)
    assert asked == [0, 1, 0, 1]


def test_what_was_said_before_an_error_is_kept():
    def breaks(missing):
        yield from counting([])(missing[:3])
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        answered("c:1", KEYS, breaks, "x", None)
    answered("c:1", KEYS, counting(asked := []), "x", None)
    assert asked == [3, 4]


def test_answers_reach_the_disk_in_batches(monkeypatch):
    monkeypatch.setattr(row_memory, "ROWS_PER_FILE", 2)
    sizes = []
    with RowMemory("c:1") as memory:
        for i in range(5):
            memory.add({KEYS[i]: Said(("x",))})
            sizes.append(len(list(memory.folder.glob("*.parquet"))))
    assert sizes == [0, 1, 1, 2, 2] and len(RowMemory("c:1").recall(KEYS)) == 5


def test_a_damaged_file_is_named_and_asked_again(caplog):
    answered("c:1", KEYS, counting([]), "x", None)
    [path] = RowMemory("c:1").folder.glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with caplog.at_level(logging.WARNING):
        answered("c:1", KEYS, counting(asked := []), "x", None)
    assert len(asked) == 5 and str(path) in caplog.text


def test_having_nothing_to_say_is_an_answer():
    answered("c:1", KEYS[:1], lambda missing: [[(0, Said(()))]], "x", None)
    assert answered("c:1", KEYS[:1], counting(asked := []), "x", None) == [Said(())] and not asked


def test_progress_counts_what_was_known():
    answered("c:1", KEYS[:2], counting([]), "x", None)
    told = []
    answered("c:1", KEYS, counting([]), "x", lambda *now: told.append(now))
    assert told == [("x", 3, 5), ("x", 4, 5), ("x", 5, 5)]
