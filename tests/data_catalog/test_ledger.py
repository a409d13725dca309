"""Append-only files: in order, on disk, and honest about a line that was never finished."""

import subprocess
import sys

import pytest

from data_catalog import ledger

WRITE = """
import sys
from data_catalog import ledger
for _ in range(20):
    ledger.extend("book", lambda past: [{"number": len(past) + 1}])
"""


def add(value):
    return ledger.extend("book", lambda past: [{"number": len(past) + 1, "value": value}])


def test_entries_come_back_in_order():
    add("one"), add("zwei\nдва")
    assert ledger.entries("book") == [{"number": 1, "value": "one"}, {"number": 2, "value": "zwei\nдва"}]


def test_no_entries_make_no_file():
    assert ledger.extend("book", lambda past: []) == []
    assert not ledger.path_of("book").exists()


def test_a_torn_last_line_is_said_and_passed_over(caplog):
    add("one")
    with open(ledger.path_of("book"), "ab") as file:
        file.write(b'{"number": 2, "val')
    assert [entry["number"] for entry in ledger.entries("book")] == [1]
    assert "ends in a torn line of 18 bytes" in caplog.text


def test_the_next_writer_keeps_the_bytes_of_a_torn_line(caplog):
    add("one")
    with open(ledger.path_of("book"), "ab") as file:
        file.write(b'{"number": 2, "val\xff')
    assert add("two")[0]["number"] == 2
    (kept,) = ledger.path_of("book").parent.glob("book.torn-*")
    assert kept.read_bytes() == b'{"number": 2, "val\xff' and str(kept) in caplog.text
    assert [entry["value"] for entry in ledger.entries("book")] == ["one", "two"]


def test_an_entry_that_only_lacks_its_line_end_counts():
    add("one")
    path = ledger.path_of("book")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    add("two")
    assert [entry["value"] for entry in ledger.entries("book")] == ["one", "two"]


def test_damage_inside_the_ledger_is_refused_with_its_line():
    add("one"), add("two")
    path = ledger.path_of("book")
    path.write_bytes(path.read_bytes().replace(b"one", b'o"e'))
    with pytest.raises(ValueError, match=r"line 1 of the ledger .*book\.jsonl is damaged"):
        ledger.entries("book")


def test_two_processes_at_once_lose_nothing():
    writers = [subprocess.Popen([sys.executable, "-c", WRITE]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert [entry["number"] for entry in ledger.entries("book")] == list(range(1, 41))
