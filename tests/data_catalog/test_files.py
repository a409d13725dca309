"""Files by location: links, odd names, object storage, and what is said when something is not there."""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest

from data_catalog import files
from data_catalog.files import Range


@pytest.fixture
def root(tmp_path):
    """A folder with a plain file, one in a folder with an odd name, and a neighbour outside of it."""
    folder = tmp_path / "root"
    (folder / "ä b").mkdir(parents=True)
    (folder / "ä b" / "ö.jpg").write_bytes(b"0123456789")
    (folder / "plain.jpg").write_bytes(b"plain")
    (tmp_path / "outside.jpg").write_bytes(b"outside")
    return folder


def faults(root):
    return {name: stat.fault for name, stat in files.stat_below(str(root)).items() if stat.fault}


def test_files_are_listed_sorted_with_their_sizes_and_without_hidden_ones(root):
    (root / ".hidden").write_bytes(b"")
    (root / ".cache").mkdir()
    (root / ".cache" / "x.jpg").write_bytes(b"")
    assert {name: stat.size for name, stat in files.stat_below(str(root)).items()} == {"plain.jpg": 5, "ä b/ö.jpg": 10}


def test_nothing_lies_below_a_folder_that_is_not_there(tmp_path):
    assert files.stat_below(str(tmp_path / "none")) == {}


def test_links_inside_the_root_are_followed(root):
    (root / "file.jpg").symlink_to(root / "plain.jpg")
    (root / "folder").symlink_to(root / "ä b")
    found = files.stat_below(str(root))
    assert found["file.jpg"] == found["plain.jpg"] and found["folder/ö.jpg"] == found["ä b/ö.jpg"]


def test_a_link_that_leaves_the_root_is_a_fault(root):
    (root / "file.jpg").symlink_to("../outside.jpg")
    (root / "folder").symlink_to("..")
    assert {name: "leaves" in fault for name, fault in faults(root).items()} == {"file.jpg": True, "folder": True}


def test_a_link_to_nothing_is_a_fault(root):
    (root / "dangling.jpg").symlink_to("gone.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    assert faults(root) == {"dangling.jpg": "is a link to nothing", "self.jpg": "is a link to nothing"}
    assert files.stat_one(str(root / "dangling.jpg")).fault == "is a link to nothing"


def test_links_in_circles_end(root):
    (root / "ä b" / "up").symlink_to(root)
    (root / "a").mkdir()
    (root / "b").mkdir()
    (root / "a" / "to_b").symlink_to(root / "b")
    (root / "b" / "to_a").symlink_to(root / "a")
    assert set(faults(root).values()) == {"is a link to a folder that it lies in"}


def test_what_is_no_plain_file_is_a_fault(root):
    os.mkfifo(root / "pipe.jpg")
    assert faults(root) == {"pipe.jpg": "is no plain file"}


def test_a_name_that_is_not_utf8_is_a_fault_with_a_printable_name(root):
    with open(os.fsencode(root) + b"/caf\xe9.jpg", "wb"):
        pass
    assert faults(root) == {"caf\\xe9.jpg": "has a name that is not UTF-8"}


def test_a_changed_file_has_another_version(root):
    before = files.stat_one(str(root / "plain.jpg"))
    (root / "plain.jpg").write_bytes(b"other")
    os.utime(root / "plain.jpg", ns=(1, 1))
    assert files.stat_one(str(root / "plain.jpg")).version != before.version


def test_a_replaced_file_is_read_anew(root):
    assert files.read_range(str(root / "plain.jpg"), 1, 3) == b"lai"
    (root / "next.jpg").write_bytes(b"other")
    os.replace(root / "next.jpg", root / "plain.jpg")
    assert files.read_range(str(root / "plain.jpg"), 1, 3) == b"the"


def test_many_threads_read_more_files_than_are_kept_open(tmp_path):
    paths = [tmp_path / str(i) for i in range(files._OPEN_FILES + 50)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x%05d" % i)

    def read(_worker):
        return all(files.read_range(str(path), 1, 5) == b"%05d" % i for i, path in enumerate(paths))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(32)))


@pytest.mark.parametrize("scheme", ["memory", "s3"])
def test_a_store_answers_like_a_folder(scheme, stores):
    root = stores[scheme]({"ä b/ö.jpg": b"0123456789", "plain.jpg": b"plain", ".hidden": b""})
    found = files.stat_below(root)
    assert {name: stat.size for name, stat in found.items()} == {"plain.jpg": 5, "ä b/ö.jpg": 10}
    assert files.stat_one(files.join(root, "ä b/ö.jpg")) == found["ä b/ö.jpg"]
    assert files.stat_one(files.join(root, "gone.jpg")) is None
    assert files.read_all(files.join(root, "plain.jpg")) == b"plain"
    with files.open_binary(files.join(root, "ä b/ö.jpg")) as file:
        file.seek(4)
        assert file.read(2) == b"45"


@pytest.mark.parametrize("scheme", ["memory", "s3"])
def test_ranges_of_a_store_come_back_in_the_order_asked_for(scheme, stores):
    url = files.join(stores[scheme]({"data": b"0123456789", "more": b"abc"}), "data")
    other = url.removesuffix("data") + "more"
    wanted = [Range(url, 8, 5), Range(other, 1, 2), Range(url, 0, 2), Range(url, 20, 3), Range(url, 1, 3)]
    assert files.read_ranges(wanted) == [b"89", b"bc", b"01", b"", b"123"]


def test_neighbouring_ranges_share_one_request():
    near, far = [Range("s3://b/x", 100 * i, 50) for i in (3, 1, 2)], Range("s3://b/x", 10**6, 10)
    assert files._joined([*near, far]) == {Range("s3://b/x", 100, 250): sorted(near), far: [far]}


def test_a_range_within_another_is_read_once():
    long, short = Range("s3://b/x", 0, 1000), Range("s3://b/x", 10, 5)
    assert files._joined([short, long]) == {long: [long, short]}


def test_a_missing_bucket_is_named_with_the_settings_that_decide(stores):
    stores["s3"]({})
    with pytest.raises(files.Unreachable, match=r"s3://nowhere/x: there is no such bucket.*AWS_ENDPOINT_URL"):
        files.stat_below("s3://nowhere/x")


@pytest.mark.skipif(find_spec("adlfs") is not None, reason="the driver is there")
def test_a_missing_driver_is_named_with_its_extra():
    with pytest.raises(ValueError, match=r"pip install 'evergreen\[azure\]'"):
        files.stat_below("az://container/x")


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no driver for s4://, expected one of \['s3'"):
        files.read_all("s4://bucket/x")


def test_no_secret_of_a_url_is_told():
    with pytest.raises(files.Unreachable) as caught, files.reaching("https://me:word@host/x?Signature=abc"):
        raise OSError("GET https://me:word@host/x?Signature=abc failed")
    assert "abc" not in str(caught.value) and "word" not in str(caught.value) and "host/x" in str(caught.value)
