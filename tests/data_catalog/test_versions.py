"""Records of other versions: older ones are brought up to date, later ones refused."""

import json

import pytest

from data_catalog import ledger
from data_catalog.versions import LaterVersion, Versioned
from models.evaluation.record import ExperimentRecord
from models.living import LivingStep


class Letter(Versioned):
    MIGRATIONS = (lambda old: {"to": old["address"]}, lambda old: {**old, "sealed": False})

    to: str
    sealed: bool


def test_a_record_of_any_earlier_version_is_brought_up_to_date():
    latest = Letter(to="Ada", sealed=False)
    assert latest.version == 3
    for old in ({"address": "Ada"}, {"version": 1, "address": "Ada"}, {"version": 2, "to": "Ada"}):
        assert Letter.model_validate_json(json.dumps(old)) == latest


def test_a_record_says_its_version():
    assert json.loads(Letter(to="Ada", sealed=True).model_dump_json()) == {"version": 3, "to": "Ada", "sealed": True}


@pytest.mark.parametrize("kind", [LivingStep, ExperimentRecord, Letter])
def test_a_record_of_a_later_version_is_refused_with_what_to_do(kind):
    with pytest.raises(LaterVersion, match=f"stored {kind.__name__} has version 99.*update Evergreen"):
        kind.model_validate_json('{"version": 99, "unheard": "of"}')


def test_a_version_that_is_no_number_is_said():
    with pytest.raises(ValueError, match="version"):
        Letter.model_validate_json('{"version": "soon", "to": "Ada", "sealed": false}')


def test_entries_of_a_ledger_without_a_format_are_of_the_first():
    ledger.extend("book", lambda past: [{"page": 2}])
    path = ledger.path_of("book")
    path.write_bytes(b'{"page": 1}\n' + path.read_bytes())
    assert ledger.entries("book") == [{"page": 1}, {"page": 2}]
    assert b'"format": 1' in path.read_bytes()


def test_a_ledger_with_entries_of_a_later_format_is_neither_read_nor_written():
    ledger.extend("book", lambda past: [{"page": 1}])
    path = ledger.path_of("book")
    path.write_bytes(before := path.read_bytes() + b'{"page": 2, "format": 2}\n')
    with pytest.raises(LaterVersion, match=r"line 2 of the ledger .*book.jsonl has version 2"):
        ledger.entries("book")
    with pytest.raises(LaterVersion):
        ledger.extend("book", lambda past: [{"page": 3}])
    assert path.read_bytes() == before
