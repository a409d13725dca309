"""The command on differences of weights, as a user types it."""

import json
import re
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from data_catalog import store
from flows.cli_diff import short_names

BLOCK = "visual.transformer.resblocks.{}.mlp.c_fc.weight"


@pytest.fixture
def evergreen(evergreen):
    """Runs `evergreen diff`."""
    return partial(evergreen, "diff")


def weights(*moves):
    """A tower of two blocks of ones, moved by this much each, and a text tower that stays."""
    towers = {BLOCK.format(i): torch.full((4,), 1.0 + move) for i, move in enumerate(moves)}
    return towers | {"transformer.resblocks.0.mlp.c_fc.weight": torch.ones(4)}


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in ("origin", "first", "second")]
    for path, moves in zip(paths, [(0, 0), (0.5, 0), (0, -0.25)], strict=True):
        save_file(weights(*moves), path)
    return paths


def test_the_document_says_how_far_and_which_way(evergreen, files):
    code, out, _ = evergreen(*files, "--json")
    found = json.loads(out)
    whole, layers = found["towers"][0], {(row["tower"], row["layer"]): row for row in found["layers"]}
    assert code == 0 and found["checkpoints"] == [str(path) for path in files[1:]]
    assert whole["norms"] == [1, 0.5] and whole["cosines"] == [[1, 0], [0, 1]] and whole["consecutive_cosines"] == [0]
    assert layers["image", "block 1"]["drift"] == [0.5, 0] and layers["image", "block 2"]["drift"] == [0, 0.25]
    assert layers["text", "block 1"]["drift"] == [0, 0] and layers["text", "block 1"]["consecutive_cosines"] == [None]


def test_the_tables_name_files_and_layers(evergreen, files):
    code, out, _ = evergreen(*files)
    assert code == 0 and re.search(r"image\s*│ block 2\s*│\s*4 │\s*0\.000 │\s*0\.2500 │", out)
    assert re.search(r"first\s*│ 0\.2887 │\s*1\.000 │\s*1\.000 │\s*0\.000 │", out) and "first, second" in out


def test_many_checkpoints_are_shown_by_their_ends_and_extremes(evergreen, files):
    origin, first, second = files
    code, out, _ = evergreen(origin, first, *[second] * 6, "--json")
    assert code == 0 and len(json.loads(out)["layers"][0]["drift"]) == 7
    code, out, _ = evergreen(origin, first, *[second] * 6)
    assert re.search(r"block 1\s*│\s*4 │\s*0\.5000 │\s*0\.000 │\s*0\.000 │\s*0\.5000 │", out) and "second (6)" in out


@pytest.mark.parametrize("name, start", [("d.html", b"<!doctype html>"), ("d.png", b"\x89PNG"), ("d.svg", b"<?xml")])
def test_a_plot_is_written_in_the_format_of_its_ending(evergreen, files, tmp_path, name, start):
    code, out, _ = evergreen(*files, "--plot", tmp_path / name)
    assert code == 0 and (tmp_path / name).read_bytes().startswith(start) and f"{name}\n" in out


def test_the_page_loads_nothing_and_has_all_numbers(evergreen, files, tmp_path):
    odd = files[1].rename(tmp_path / "<b>&.safetensors")
    evergreen(files[0], odd, files[2], "--plot", tmp_path / "d.html")
    page = (tmp_path / "d.html").read_text()
    assert not re.search(r"<script|<link[^>]*https?:|src=|url\(h", page) and "<svg" in page
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page and "0.2500" in page


def test_equal_inputs_give_equal_pictures(evergreen, files, tmp_path):
    for name in ("a.svg", "b.svg"):
        evergreen(*files, "--plot", tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_plot_without_a_format_is_refused_before_anything_is_read(evergreen, files, tmp_path):
    code, _, err = evergreen(tmp_path / "none.safetensors", files[0], "--plot", "drift.txt")
    assert code == 2 and "--plot is drift.txt, expected a file name that ends in .html, .png, .svg" in err


def test_steps_of_an_experiment_and_digests_are_found(evergreen, files, monkeypatch):
    start, expert, deployed = (store.write_bytes(path.read_bytes()) for path in files)
    step = SimpleNamespace(step=0, expert=expert, deployed=deployed)
    record = SimpleNamespace(pretrained=start, recipes=[SimpleNamespace(name="low", trained=[step])])
    monkeypatch.setattr("models.evaluation.record.find_record", {"mine": record}.__getitem__)
    for options, norm in (([], 0.5), (["--weights", "expert"], 1)):
        code, out, _ = evergreen("pretrained", "low/0", "--experiment", "mine", "--json", *options)
        assert code == 0 and json.loads(out)["towers"][0]["norms"] == [norm]
    assert evergreen(start, deployed)[0] == 0
    code, _, err = evergreen("pretrained", "low/1", "--experiment", "mine")
    assert code == 2 and "no step 'low/1' in mine: give a *.safetensors file, or one of pretrained, low/0" in err


def test_other_layouts_are_refused_with_names_and_shapes(evergreen, files, tmp_path):
    save_file(weights(0) | {"transformer.resblocks.0.mlp.c_fc.weight": torch.ones(5)}, tmp_path / "other.safetensors")
    code, out, err = evergreen(files[0], tmp_path / "other.safetensors")
    assert code == 2 and not out and f"{BLOCK.format(1)!r} only in {files[0]}" in err and "[4] and [5]" in err


def test_bad_input_says_what_can_be_given(evergreen, files, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(files[1].read_bytes()[:-3])
    for given, reason in (
        ([files[0]], "found 1 checkpoint, expected the origin and one or more"),
        ([files[0], tmp_path], "is a folder; give the *.safetensors file in it"),
        ([files[0], "nothing"], "'nothing' is no checkpoint: give a *.safetensors file"),
        ([files[0], tmp_path / "none.safetensors"], "none.safetensors cannot be read: No such file"),
        ([files[0], tmp_path / "cut.safetensors"], "cut.safetensors is damaged"),
    ):
        code, _, err = evergreen(*given)
        assert code == 2 and reason in err


def test_names_are_as_short_as_they_can_be_and_differ():
    digest = "sha256:" + "ab" * 32
    assert short_names(["a/x.safetensors", "b/y.safetensors", digest, "low/0"]) == ["x", "y", "ab" * 6, "low/0"]
    assert short_names(["a/x.safetensors", "b/x.safetensors"]) == ["a/x", "b/x"]
    assert short_names(["a/x.safetensors"] * 2) == ["x", "x (2)"]
