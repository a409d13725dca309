import json

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from models.merging import AnyTechnique, parts
from models.merging.engine import merge_files, passes_of
from models.merging.ranks import Selection, key_bits, magnitude_keys
from models.merging.workers import Workers
from models.tensor_files import TensorFile

KINDS = ["linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs_linear",
         "breadcrumbs_ties", "magmax", "model_stock", "tall_masks", "random", "karcher"]  # fmt: skip


def technique(**settings):
    return TypeAdapter(AnyTechnique).validate_python(settings)


@pytest.fixture
def files(tmp_path):
    """A base and three experts, one tensor of which is longer than a part."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"visual.w": (700, 300), "w": (50, 10), "logit_scale": (), "visual.b": (10,)}
    weights = [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(4)]
    for number, each in enumerate(weights):
        save_file({**each, "n": torch.tensor(number)}, tmp_path / f"{number}.safetensors")
    return [tmp_path / f"{number}.safetensors" for number in range(4)]


def merged(settings, files, folder, **more):
    experts = files[1:3] if settings["kind"] == "slerp" else files[1:]
    merge_files(technique(**settings), files[0], experts, folder / "out.safetensors", **more)
    return load_file(folder / "out.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_parts_threads_and_files_change_no_bit(files, tmp_path, monkeypatch, kind):
    loaded = [load_file(path) for path in files]
    whole = technique(kind=kind).merge(loaded[0], loaded[1:3] if kind == "slerp" else loaded[1:], seed=3)
    threads = torch.get_num_threads()
    for bytes_of_a_part, count in ((1, 1), (1, 2), (parts._PART_BYTES, 2)):
        monkeypatch.setattr(parts, "_PART_BYTES", bytes_of_a_part)
        torch.set_num_threads(count)
        try:
            found = merged({"kind": kind}, files, tmp_path, seed=3)
        finally:
            torch.set_num_threads(threads)
        assert found.keys() == whole.keys() and found["n"].item() == (2 if kind == "slerp" else 3)
        assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_equal_merges_give_equal_bytes(files, tmp_path):
    written = []
    for _ in range(2):
        merged({"kind": "ties"}, files, tmp_path)
        written.append((tmp_path / "out.safetensors").read_bytes())
    assert written[0] == written[1]


def test_progress_reaches_the_end(files, tmp_path):
    seen = []
    merged({"kind": "ties"}, files, tmp_path, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1)


@pytest.mark.parametrize(("kind", "passes"), [("linear", 1), ("ties", 3), ("karcher", 2), ("dare_ties", 1)])
def test_the_passes_are_known_before(kind, passes):
    assert passes_of(technique(kind=kind), 1000) == passes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_order_statistics_are_exact(dtype):
    values = torch.randn(5000, dtype=dtype)
    values[:100] = 0
    ranks, ordered = (1, 100, 101, 2500, 5000), values.abs().sort().values
    search = Selection([ranks], key_bits(dtype))
    for _ in range(Selection.passes(search.bits)):
        for run in values.split(700):
            search.see(0, magnitude_keys(run.clone()))
        search.end_pass()
    from models.merging.ranks import magnitude

    assert [magnitude(key, search.bits) for key in search.found()[0]] == [ordered[rank - 1].item() for rank in ranks]


def test_other_layouts_are_refused_by_name_and_shape(files, tmp_path):
    odd = load_file(files[2])
    save_file({**odd, "extra": torch.ones(1)}, files[2])
    with pytest.raises(ValueError, match="'extra'"):
        merged({"kind": "linear"}, files, tmp_path)
    save_file({**odd, "w": torch.ones(3, 3)}, files[2])
    with pytest.raises(ValueError, match=r"'w' \[3, 3\] and \[50, 10\]"):
        merged({"kind": "linear"}, files, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-5], lambda b: b[:6], lambda b: b"\xff" * 8 + b[8:], lambda b: b""])
def test_damaged_files_are_refused(files, tmp_path, damage):
    files[2].write_bytes(damage(files[2].read_bytes()))
    with pytest.raises(ValueError, match=r"2\.safetensors"):
        merged({"kind": "linear"}, files, tmp_path)


def test_an_expert_that_is_not_finite_is_named(files, tmp_path):
    odd = load_file(files[2])
    odd["w"][3, 3] = float("nan")
    save_file(odd, files[2])
    with pytest.raises(ValueError, match=r"merged 'w' is not finite: expert 1"):
        merged({"kind": "ties"}, files, tmp_path)
    assert not list(tmp_path.glob("*out*"))


def test_a_mask_that_all_share_is_kept(files, tmp_path):
    for path in files:
        save_file({**load_file(path), "mask": torch.tensor([0.0, -float("inf")])}, path)
    assert merged({"kind": "task_arithmetic"}, files, tmp_path)["mask"].tolist() == [0, -float("inf")]


def test_a_file_is_read_by_position(files):
    with TensorFile(files[0]) as file:
        whole = load_file(files[0])["visual.w"].flatten()
        assert torch.equal(file.read("visual.w", 5, 99), whole[5:99]) and file.layout["logit_scale"].shape == ()


def test_types_unknown_to_it_are_named(tmp_path):
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "f8.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(ValueError, match="F8_E4M3"):
        TensorFile(tmp_path / "f8.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match="`device` is cuda, expected cpu"):
        merged({"kind": "linear"}, files, tmp_path, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_nearly_the_same(files, tmp_path, kind):
    here, there = (merged({"kind": kind}, files, tmp_path, device=device) for device in ("cpu", "cuda"))
    assert all(torch.allclose(here[name], there[name], atol=1e-5) for name in here)


def test_a_base_that_is_not_finite_is_named(files, tmp_path):
    save_file({**load_file(files[0]), "visual.b": torch.full((10,), float("nan"))}, files[0])
    with pytest.raises(ValueError, match=r"'visual.b' is not finite: the base"):
        merged({"kind": "task_arithmetic"}, files, tmp_path)


def test_what_the_type_of_the_result_cannot_hold_is_refused(files, tmp_path):
    for path, value in zip(files, (0, 60_000, 60_000, 0), strict=True):
        save_file({"w": torch.full((3,), value, dtype=torch.float16)}, path)
    with pytest.raises(ValueError, match=r"values up to 1.2e\+05, more than float16 holds"):
        merged({"kind": "task_arithmetic"}, files, tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def test_arithmetic_is_as_exact_as_the_most_exact_input(files, tmp_path):
    third = {"w": torch.full((2,), 1 / 3, dtype=torch.float64)}
    save_file({"w": torch.zeros(2)}, files[0])
    save_file(third, files[1])
    save_file({"w": torch.zeros(2)}, files[2])
    merge_files(technique(kind="linear"), files[0], files[1:3], tmp_path / "out.safetensors", newest=0)
    assert load_file(tmp_path / "out.safetensors")["w"].tolist() == [1 / 6, 1 / 6]


def test_an_error_in_one_part_ends_a_merge_of_many(files):
    sources = [parts.InMemory({f"w{i}": torch.ones(4) for i in range(200)}) for _ in range(2)]
    inputs, seen = parts.Inputs(None, sources), []

    def see(part):
        seen.append(part.name)
        if part.name == "w7":
            raise ValueError("no")

    with Workers() as workers, pytest.raises(ValueError, match="no"):
        inputs.each(workers, see, inputs.floats, with_base=False)
    assert seen


def test_the_input_of_another_layout_is_called_by_its_number(files, tmp_path):
    save_file({**load_file(files[1]), "extra": torch.ones(1)}, files[1])
    with pytest.raises(ValueError, match="expert 0"):
        merged({"kind": "linear"}, files, tmp_path)
