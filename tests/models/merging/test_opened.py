"""What is given as weights and is none: refused with the file, what it holds and what to do."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.merging.opened import open_weights
from models.tensor_files import TensorFile


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "does not load as weights alone"),
    (b"hello world", "does not load as weights alone"),
    (b"PK\x03\x04garbage", "does not load as weights alone"),
    ([1], "holds no plain mapping of names"),
    ({0: torch.zeros(3)}, "names a tensor 0, expected a string"),
    ({"a": torch.zeros(3, dtype=torch.complex64)}, "holds 'a', strided of complex64; expected"),
    ({"a": torch.zeros(3).to(torch.float8_e4m3fn)}, "holds 'a', strided of float8_e4m3fn; expected"),
    ({"a": torch.eye(3).to_sparse()}, "holds 'a', sparse_coo of float32; expected"),
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_a_pickle_that_holds_no_weights_is_refused(tmp_path, content, reason):
    path = tmp_path / "p.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=rf"p\.pt {reason}"):
        open_weights(str(path))


class _Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_code_in_a_pickle_is_not_executed(tmp_path, capsys):
    torch.save({"w": _Evil()}, tmp_path / "evil.bin")
    with pytest.raises(ValueError, match=r"evil\.bin does not load as weights alone"):
        open_weights(str(tmp_path / "evil.bin"))
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("index", ['{"weight_map": {"a": 5}}', '{"weight_map": {"a": ["x"]}}', '{"weight_map": {}}',
                                   '{"weight_map": {"a": "model.safetensors.index.json"}}', "[]", "{"])  # fmt: skip
def test_an_index_that_names_no_shards_is_refused(tmp_path, index):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(ValueError, match=r"index\.json (is no index of shards|does not read as JSON)"):
        open_weights(str(tmp_path))


@pytest.fixture
def base(tmp_path):
    save_file({"a.weight": torch.zeros(4, 3), "b.weight": torch.zeros(4, 3)}, tmp_path / "base.safetensors")
    return open_weights(str(tmp_path / "base.safetensors"))


@pytest.fixture
def adapter(tmp_path):
    """A folder of peft with LoRA of rank 1 in one place and 2 in the other, at an alpha of 4."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    tensors = {"a.lora_A": torch.ones(1, 3), "a.lora_B": torch.ones(4, 1), "b.lora_A": torch.ones(2, 3),
               "b.lora_B": torch.ones(4, 2)}  # fmt: skip
    named = {f"base_model.model.{name}.weight": tensor for name, tensor in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 4, "rank_pattern": {"b": 2}}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_places_of_an_adapter_may_have_ranks_of_their_own(base, adapter, tmp_path):
    opened = open_weights(str(adapter), base)
    folded = load_file(opened.as_file(tmp_path / "folded.safetensors"))
    assert opened.note == "lora of rank 1, 2, folded onto the base first"
    assert folded["a.weight"].eq(4 / 1 * 1).all() and folded["b.weight"].eq(4 / 2 * 2).all()


@pytest.mark.parametrize(("config", "reason"), [
    ("{", "adapter_config.json does not read as JSON"),
    ("[]", "adapter_config.json holds no mapping"),
    ('{"peft_type": "LORA"}', "adapter_config.json has `lora_alpha` None"),
    ('{"peft_type": "IA3"}', "adapter: the adapter is of type 'IA3'"),
])  # fmt: skip
def test_a_configuration_that_is_none_of_an_adapter_is_refused(base, adapter, config, reason):
    (adapter / "adapter_config.json").write_text(config)
    with pytest.raises(ValueError, match=reason):
        open_weights(str(adapter), base)


def test_weights_of_an_adapter_that_are_cut_or_in_part_are_refused(base, adapter):
    path = adapter / "adapter_model.safetensors"
    tensors, whole = load_file(path), path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is damaged"):
        open_weights(str(adapter), base)
    save_file({name: tensor for name, tensor in tensors.items() if "a.lora_B" not in name}, path)
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors lacks a part of an adapter"):
        open_weights(str(adapter), base)


def test_shards_are_joined(tmp_path):
    for name in "ab":
        save_file({name: torch.full((2,), float(ord(name)))}, tmp_path / f"{name}.safetensors")
    index = {"weight_map": {name: f"{name}.safetensors" for name in "ab"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    joined = open_weights(str(tmp_path)).as_file(tmp_path / "joined.safetensors")
    with TensorFile(joined) as file:
        assert [file.read(name).tolist() for name in "ab"] == [[97, 97], [98, 98]]
