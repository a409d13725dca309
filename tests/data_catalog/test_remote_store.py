"""The store in object storage: true there, kept here, and nothing lost while the service fails."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fsspec
import pytest

from data_catalog import files, ledger, object_storage, promotions, remote_store, shared_files, store, store_cache
from data_catalog.outage import Outage
from data_catalog.places import results_root, store_root
from data_catalog.promotions import Promotion
from data_catalog.store import MissingArtifact
from tests.data_catalog.faulty_service import FaultyService

NOWHERE = "sha256:" + "0" * 64


@pytest.fixture
def url(object_store, tmp_path, monkeypatch):
    """A store in a fresh bucket, and the URL of it."""
    fsspec.filesystem("s3").mkdir(tmp_path.name.lower().replace("_", "-"))
    monkeypatch.setenv("EVERGREEN_STORE", f"s3://{tmp_path.name.lower().replace('_', '-')}/store")
    return os.environ["EVERGREEN_STORE"]


@pytest.fixture
def service(url, object_store, monkeypatch):
    """The same behind a service that fails for a fifth of all requests."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the driver's own repetitions are slow, and not ours
    with FaultyService(*object_store.get_host_and_port()) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL", faulty.url)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield faulty
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def elsewhere(monkeypatch, tmp_path, name="second"):
    """Be another machine from here on."""
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / name))


def objects(url):
    return {path.rpartition("/")[2] for path in fsspec.filesystem("s3").find(f"{url}/objects")}


def raw(url, digest):
    return f"{url}/{remote_store.key_of(digest)}"


def test_what_is_stored_is_there_before_its_digest_is_told(url):
    digest = store.write_bytes(b"weights", kind="test")
    assert fsspec.filesystem("s3").cat_file(raw(url, digest)) == b"weights"


def test_another_machine_reads_what_was_stored_and_how_it_was_made(url, monkeypatch, tmp_path):
    digest = store.write_bytes(b"weights", kind="test")
    elsewhere(monkeypatch, tmp_path)
    assert not store.path_of(digest).exists() and store.is_intact(digest)
    assert not store.path_of(digest).exists()  # asking fetches nothing
    assert store.read_bytes(digest) == b"weights" and store.path_of(digest).is_file()
    assert [origin["kind"] for origin in store.origins(digest)] == ["test"]
    assert list(store.stored_digests()) == [digest]


def test_large_files_travel_in_parts(url, monkeypatch, tmp_path):
    monkeypatch.setattr(object_storage, "PART", 5 * 2**20)  # the smallest that a service takes
    monkeypatch.setattr(remote_store, "PART", 5 * 2**20)
    data = os.urandom(13 * 2**20)
    digest = store.write_bytes(data)
    assert "-" in fsspec.filesystem("s3").info(raw(url, digest))["ETag"]  # in parts
    elsewhere(monkeypatch, tmp_path)
    assert store.read_bytes(digest) == data


def test_every_upload_has_a_checksum_and_creates_only_what_is_not_there(service, monkeypatch):
    monkeypatch.setattr(object_storage, "PART", 5 * 2**20)
    monkeypatch.setattr(remote_store, "PART", 5 * 2**20)
    service.share, passed_on, told = 0, service.passed_on, []

    def listen(method, path, headers, body):
        told.append((method, {name.lower(): value for name, value in headers.items()}))
        return passed_on(method, path, headers, body)

    monkeypatch.setattr(service, "passed_on", listen)
    store.write_bytes(b"small"), store.write_bytes(os.urandom(11 * 2**20))
    assert all("x-amz-checksum-crc32" in headers for method, headers in told if method == "PUT")
    ends = [headers for method, headers in told if headers.get("if-none-match") == "*"]
    assert len(ends) == 2  # of the one request, and of the upload in parts


def test_nothing_is_an_artifact_too(url, monkeypatch, tmp_path):
    digest = store.write_bytes(b"")
    elsewhere(monkeypatch, tmp_path)
    assert store.read_bytes(digest) == b""


def test_what_is_not_there_is_said_with_the_url(url):
    assert not store.is_intact(NOWHERE) and store.stat_of(NOWHERE) is None
    with pytest.raises(MissingArtifact, match=f"is not in the store at {url}"):
        store.locate(NOWHERE)
    with pytest.raises(MissingArtifact, match="is not in the store"):
        store.require(NOWHERE)


def test_damage_here_is_mended_from_there(url):
    digest = store.write_bytes(b"weights")
    store.path_of(digest).write_bytes(b"damaged")
    assert store.read_bytes(digest) == b"weights"


def test_damage_there_is_set_aside_and_made_again(url, monkeypatch, tmp_path):
    digest = store.write_bytes(b"weights")
    fsspec.filesystem("s3").pipe_file(raw(url, digest), b"Weights")
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(MissingArtifact, match="damaged and is now set aside"):
        store.locate(digest)
    assert not store.is_intact(digest)
    assert fsspec.filesystem("s3").cat_file(f"{url}/damaged/{digest[7:]}") == b"Weights"
    assert store.write_bytes(b"weights") == digest and store.is_intact(digest)


def test_an_object_of_another_size_is_written_anew(url):
    digest = store.write_bytes(b"weights")
    fsspec.filesystem("s3").pipe_file(raw(url, digest), b"half")
    store.write_bytes(b"weights")
    assert fsspec.filesystem("s3").cat_file(raw(url, digest)) == b"weights"


def test_what_only_this_machine_has_is_brought_back_when_it_is_asked_for(url):
    digest = store.write_bytes(b"weights")
    fsspec.filesystem("s3").rm(raw(url, digest))
    store.require(digest)
    assert objects(url) == {digest[7:]}


def test_two_buckets_do_not_share_what_this_machine_keeps(url, monkeypatch):
    digest = store.write_bytes(b"weights")
    monkeypatch.setenv("EVERGREEN_STORE", f"{url}-other")
    assert not store.is_intact(digest)


def test_the_cache_lets_go_what_was_not_used_for_the_longest(url, monkeypatch):
    monkeypatch.setenv("EVERGREEN_STORE_CACHE_SIZE", "2 KB")
    monkeypatch.setattr(store_cache, "BRIEFLY", -1.0)
    first, second = (store.write_bytes(bytes([n]) * 900) for n in range(2))
    store.locate(first)
    third = store.write_bytes(b"3" * 900)
    assert [store.path_of(digest).is_file() for digest in (first, second, third)] == [True, False, True]
    assert store.read_bytes(second) == b"\x01" * 900


def test_the_cache_keeps_what_a_run_may_have_at_hand(url, monkeypatch, caplog):
    monkeypatch.setenv("EVERGREEN_STORE_CACHE_SIZE", "1 KB")
    digests = [store.write_bytes(bytes([n]) * 900) for n in range(3)]
    assert all(store.path_of(digest).is_file() for digest in digests)
    assert "all of it was used just now" in caplog.text


@pytest.mark.parametrize("given", ["s3://key:secret@bucket/store", "s3://bucket/store?X-Amz-Signature=secret"])
def test_a_url_with_a_secret_is_refused_without_telling_it(given, monkeypatch):
    monkeypatch.setenv("EVERGREEN_STORE", given)
    with pytest.raises(ValueError, match="EVERGREEN_STORE holds a secret") as told:
        store_root()
    assert "secret@" not in str(told.value) and "=secret" not in str(told.value)


def test_a_url_that_cannot_create_conditionally_is_refused(monkeypatch):
    monkeypatch.setenv("EVERGREEN_STORE", "ftp://host/store")
    with pytest.raises(ValueError, match="s3://, gs://, az://"):
        store_root()


@pytest.mark.parametrize("scheme, extra, driver", [("gs", "gs", "gcsfs"), ("az", "azure", "adlfs")])
def test_a_missing_driver_is_named_with_its_extra(scheme, extra, driver, monkeypatch):
    monkeypatch.setitem(sys.modules, driver, None)
    monkeypatch.setenv("EVERGREEN_STORE", f"{scheme}://bucket/store")
    with pytest.raises(ValueError, match=rf"pip install 'evergreen\[{extra}\]'"):
        store.write_bytes(b"weights")


def test_a_missing_bucket_is_named(object_store, monkeypatch):
    monkeypatch.setenv("EVERGREEN_STORE", "s3://there-is-none/store")
    with pytest.raises(ValueError, match="there is no bucket s3://there-is-none: make it"):
        store.write_bytes(b"weights")


def test_a_service_that_is_down_is_an_outage_in_one_line(url, monkeypatch, service):
    monkeypatch.setenv("EVERGREEN_STORE_PATIENCE", "0.3")
    service.share = 1.0
    service._rng.choice = lambda kinds: "500"
    with pytest.raises(Outage, match=r"cannot .*tried for 0.3 s.*AWS_ENDPOINT_URL") as told:
        store.write_bytes(b"weights")
    assert "\n" not in str(told.value)


def test_entries_of_two_machines_stand_in_one_order(url, monkeypatch, tmp_path):
    for machine in ("first", "second", "first", "third"):
        elsewhere(monkeypatch, tmp_path, machine)
        ledger.extend("book", lambda past, machine=machine: [{"by": machine, "number": len(past)}])
    assert [(e["number"], e["by"]) for e in ledger.entries("book")] == [
        (0, "first"), (1, "second"), (2, "first"), (3, "third")
    ]  # fmt: skip
    assert ledger.names("bo") == ["ok"]


def test_who_comes_second_is_asked_again_with_what_the_first_wrote(url):
    asked = []

    def late(past):
        if not asked:
            ledger.extend("book", lambda _: [{"who": "quicker"}])
        asked.append(len(past))
        return [{"who": "late"}]

    ledger.extend("book", late)
    assert asked == [0, 1] and [e["who"] for e in ledger.entries("book")] == ["quicker", "late"]


def test_two_machines_cannot_both_have_the_last_word_about_what_is_live(url):
    def entry(reason):
        return Promotion(number=0, deed="promote", checkpoint="c", backbone="b", by="gate", reason=reason, time="")

    start = promotions.add("s", entry("start"), follows=None)
    there, create = object_storage.ObjectStorage, object_storage.ObjectStorage.create
    with pytest.MonkeyPatch.context() as patch:

        def slow(self, key, data):
            patch.undo()
            promotions.add("s", entry("quicker"), follows=start.number)
            return create(self, key, data)

        patch.setattr(there, "create", slow)
        with pytest.raises(promotions.LiveChanged, match="quicker"):
            promotions.add("s", entry("late"), follows=start.number)
    assert [e.reason for e in promotions.entries("s")] == ["start", "quicker"]


def test_a_ledger_that_lost_an_addition_is_refused(url, monkeypatch, tmp_path):
    for _ in range(3):
        ledger.extend("book", lambda past: [{"number": len(past)}])
    fsspec.filesystem("s3").rm(f"{url}/ledger/book/000000001.json")
    elsewhere(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=r"addition 1 of the ledger .* is gone"):
        ledger.entries("book")


def test_nothing_is_lost_while_a_fifth_of_all_requests_fails(service, monkeypatch, tmp_path):
    def work(who):
        digests = []
        for number in range(3):
            digests.append(store.write_bytes(f"{who}-{number}".encode() * 100, kind="test", who=who))
            ledger.extend("book", lambda past, n=number: [{"by": who, "n": n, "at": len(past)}])
            assert store.is_intact(digests[-1])
        return digests

    with ThreadPoolExecutor(4) as pool:
        digests = [digest for found in pool.map(work, range(4)) for digest in found]
    elsewhere(monkeypatch, tmp_path)
    found = ledger.entries("book")
    assert [e["at"] for e in found] == list(range(12))
    assert {(e["by"], e["n"]) for e in found} == {(who, n) for who in range(4) for n in range(3)}
    assert all(store.locate(digest).is_file() and len(store.origins(digest)) == 1 for digest in digests)
    assert set(store.stored_digests()) == set(digests)
    assert set(service.faults) == {"500", "503", "late", "lost"} and sum(service.faults.values()) > 10


def test_small_files_are_shared(url, monkeypatch, tmp_path):
    pointer = store_root() / "experiments" / "one.ref"
    shared_files.write(pointer, b"old")
    elsewhere(monkeypatch, tmp_path)
    there = store_root() / "experiments" / "one.ref"
    assert shared_files.read(there) == b"old"
    shared_files.write(there, b"new")
    monkeypatch.setenv("EVERGREEN_HOME", str(pointer.parents[3]))
    assert shared_files.read(pointer) == b"old" and shared_files.newest(pointer) == b"new"
    assert shared_files.below(pointer.parent, "*.ref") == [pointer]
    shared_files.delete([pointer])
    assert shared_files.newest(pointer) is None


def test_result_records_have_a_url_of_their_own(url, monkeypatch, tmp_path):
    monkeypatch.setenv("EVERGREEN_RESULTS", f"{url}-results")
    shared_files.write(results_root() / "stage-1", b"{}")
    elsewhere(monkeypatch, tmp_path)
    assert [path.name for path in shared_files.below(results_root(), "*-*")] == ["stage-1"]
    assert shared_files.read(results_root() / "stage-1") == b"{}"


def test_a_wrong_clock_here_changes_no_age_and_no_order(url, monkeypatch):
    before = store.stat_of(store.write_bytes(b"one")).modified
    monkeypatch.setattr("time.time", lambda: before + 1e6)
    assert abs(store.stat_of(store.write_bytes(b"two")).modified - before) < 60


def test_a_folder_needs_no_driver():
    program = "import sys; from data_catalog import store; store.read_bytes(store.write_bytes(b'x')); " \
              "sys.exit(any(name.startswith(('fsspec', 's3fs', 'boto')) for name in sys.modules))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_no_secret_is_written_anywhere(url, object_store, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "Very/Secret/Key")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    caplog.set_level(logging.DEBUG, "data_catalog")
    store.write_bytes(b"weights", kind="test", url=url)
    ledger.extend("book", lambda past: [{"n": 1}])
    driver = fsspec.filesystem("s3")
    there = b"".join(driver.cat_file(path) for path in driver.find(url.rpartition("/")[0]))
    here = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"weights" in there and b"weights" in here
    assert b"Very/Secret" not in there + here + caplog.text.encode()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def test_ranges_of_samples_come_back_while_a_fifth_of_all_requests_fails(service, url):
    service.share = 0
    data = os.urandom(40 * 200_000)
    fsspec.filesystem("s3").pipe_file(f"{url}/shard.tar", data)
    service.share = 0.4
    wanted = [files.Range(f"{url}/shard.tar", start, 1000) for start in range(0, len(data), 200_000)]
    assert files.read_ranges(wanted) == [data[r.offset : r.offset + 1000] for r in wanted]
    assert files.stat_one(f"{url}/shard.tar").size == len(data) and sum(service.faults.values()) > 5


def test_what_the_service_refuses_for_good_is_not_asked_again(service, url):
    fsspec.filesystem("s3")
    service.share, before = 0, service.asked
    with pytest.raises(files.Unreachable):
        files.read_range(f"{url}/none.tar", 0, 10)
    assert service.asked - before < 5
