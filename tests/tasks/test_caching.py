"""Caching seen from a flow: what is re-used, what runs again, and the reason that is told."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import fsspec
import pytest
from prefect import flow

from data_catalog import places, store
from data_catalog.refs import Spec
from data_catalog.store import digest_of
from models.evaluation.scores import EvalReport, Score
from tasks.caching import cached, uncached
from tasks.journal import journal
from tasks.values import UnsupportedValue, check_storable, digest_of_input, dump, load_intact

pytestmark = pytest.mark.usefixtures("prefect_backend")


class Recipe(Spec):
    pools: frozenset[str]
    scale: float = 1.0


def write(text: str, times: int) -> str:
    return store.write_bytes(text.encode() * times)


def lengthen(digest: str, times: int) -> str:
    return store.write_bytes(store.read_bytes(digest) * times)


write_text = cached(revision=1, label="write {text}")(write)
lengthen_text = cached(revision=1)(lengthen)


def chain(text="a", times=2, second=lengthen_text):
    return flow(lambda: second.submit(write_text(text, times), times).result(), name="chain")()


def stage(name, function, decorator=None):
    function.__name__ = name
    return (decorator or cached(revision=1))(function)


def told(run) -> list[str]:
    with journal() as stages:
        run()
    return [stage.reason for stage in stages]


def test_a_second_run_executes_nothing():
    assert told(chain) == ["first run", "first run"]
    assert told(chain) == ["unchanged", "unchanged"]


def test_one_changed_input_is_named_and_reruns_what_depends_on_it():
    chain()
    assert told(partial(chain, times=3)) == ["input `times` changed", "inputs `digest`, `times` changed"]


def test_a_new_revision_runs_again():
    chain()
    assert told(partial(chain, second=cached(revision=2)(lengthen))) == ["unchanged", "revision 1 -> 2"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"flipped")])
def test_a_result_whose_bytes_are_gone_or_damaged_is_made_again_alone(damage):
    digest = chain()
    damage(store.locate(digest))
    reused, reason = told(chain)
    assert reused == "unchanged" and digest[:19] in reason
    assert store.is_intact(digest)


def test_a_truncated_record_is_no_hit(tmp_path):
    chain()
    for record in (tmp_path / "home/results").glob("lengthen-*"):
        record.write_bytes(record.read_bytes()[:-9])
    reused, reason = told(chain)
    assert reused == "unchanged" and "record cannot be used" in reason


def test_equal_inputs_of_two_tasks_do_not_meet():
    twice, thrice = stage("twice", lambda number: number * 2), stage("thrice", lambda number: number * 3)
    assert flow(lambda: (twice(7), thrice(7)), name="both")() == (14, 21)


def test_an_ignored_argument_does_not_enter_the_key():
    show = stage("show", lambda number, progress: number, cached(revision=1, ignore=("progress",)))
    assert told(flow(lambda: show(1, print), name="show")) == ["first run"]
    assert told(flow(lambda: show(1, repr), name="show")) == ["unchanged"]


def test_an_unsupported_input_fails_and_is_named():
    size = stage("size", lambda where: 1)
    with pytest.raises(UnsupportedValue, match="argument `where` of size is a pathlib"):
        flow(lambda: size(Path("/tmp")), name="size")()


def test_an_unsupported_result_fails():
    leak = stage("leak", lambda: {1, 2})
    with pytest.raises(UnsupportedValue, match="result of leak"):
        flow(lambda: leak(), name="leak")()


def test_mapped_and_stateful_calls_are_cached_too():
    run = flow(
        lambda: [*write_text.map(["a", "b"], 1).result(), write_text("a", 1, return_state=True).name], name="map"
    )
    assert run()[-1] == "Cached"
    assert told(run) == ["unchanged"] * 3


def test_options_keep_the_records_where_they_are():
    chain()
    assert told(partial(chain, second=lengthen_text.with_options(retries=1))) == ["unchanged", "unchanged"]


def test_uncached_tasks_run_every_time_and_are_told():
    scan, seen = stage("scan", lambda folder: folder, uncached(label="scan {folder}")), []
    with journal(on_stage=seen.append):
        flow(lambda: (scan("x"), scan("x")), name="scan")()
    assert [(stage.label, stage.reused) for stage in seen] == [("scan x", False)] * 2


def test_keys_do_not_depend_on_the_hash_seed():
    script = ("from tasks.values import digest_of_input; "
              "print(digest_of_input('x', {'b': {'p', 'q', 'r', 's'}, 'a': [1, 1.5, None]}))")  # fmt: skip
    run = partial(subprocess.run, [sys.executable, "-c", script], check=True, capture_output=True)
    assert len({run(env=os.environ | {"PYTHONHASHSEED": seed}).stdout for seed in "123"}) == 1


def test_a_set_in_a_spec_counts_by_content():
    first, second = (digest_of_input("x", Recipe(pools=frozenset(pools))) for pools in (["a", "b"], ["b", "a"]))
    assert first == second != digest_of_input("x", Recipe(pools=frozenset("a")))


def test_a_value_comes_back_as_it_was():
    score = Score(dataset="d", metric="accuracy_top1", value=0.5, samples=2)
    value = [(store.write_bytes(b"x"), {"k": score}), 1, 0.1, None]
    assert load_intact(dump(value)) == value


def test_a_nested_digest_is_verified():
    report = EvalReport(checkpoint=digest_of(b"never stored"), scores=())
    with pytest.raises(store.MissingArtifact):
        load_intact(dump([{"report": report}]))


def test_a_renamed_class_does_not_become_a_dict():
    with pytest.raises(AttributeError):
        load_intact('{"class": "models.evaluation.report:Renamed", "fields": {}}')


def test_a_record_cannot_import_foreign_code():
    with pytest.raises(ValueError, match="this:Zen"):
        load_intact('{"class": "this:Zen", "fields": {}}')
    assert "this" not in sys.modules


def test_a_class_that_cannot_be_found_again_is_refused():
    with pytest.raises(UnsupportedValue, match="cannot be found again"):
        check_storable("result", Recipe(pools=frozenset()))


def test_a_hit_marks_its_record_as_used():
    chain()
    (record,) = places.results_root().glob("lengthen-*")
    os.utime(record, (1000, 1000))
    chain()
    assert record.stat().st_mtime > 1000


def test_another_machine_re_uses_what_is_in_object_storage(object_store, monkeypatch, tmp_path):
    fsspec.filesystem("s3").mkdir("shared-results")
    monkeypatch.setenv("EVERGREEN_STORE", "s3://shared-results/store")
    monkeypatch.setenv("EVERGREEN_RESULTS", "s3://shared-results/results")
    assert told(chain) == ["first run", "first run"]
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
    made = []
    assert told(lambda: made.append(chain())) == ["unchanged", "unchanged"]
    assert store.read_bytes(made[0]) == b"aaaa"
    fsspec.filesystem("s3").rm(f"shared-results/store/objects/{made[0][7:9]}/{made[0][7:]}")
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "third"))
    assert told(chain)[1].startswith(made[0][:19])  # what is gone there is made again
