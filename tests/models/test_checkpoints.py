import pytest
import torch
from safetensors.torch import load_file

from data_catalog.store import MissingArtifact, locate, write_bytes
from models.checkpoints import load, save


def _weights():
    return {
        "b": torch.arange(6.0).reshape(2, 3),
        "a": torch.tensor(4.6),
        "n": torch.tensor([3], dtype=torch.int64),
        "h": torch.ones(3, dtype=torch.bfloat16),
    }


@pytest.fixture
def backbone():
    return write_bytes(b"{}")


def test_saved_weights_read_back_equal_also_by_the_safetensors_library(backbone):
    checkpoint = save(_weights(), backbone)
    for stored in (load(checkpoint), load_file(locate(checkpoint.digest))):
        assert set(stored) == set(_weights())
        assert all(torch.equal(stored[name], tensor) for name, tensor in _weights().items())


def test_digest_does_not_depend_on_key_order(backbone):
    assert save(_weights(), backbone) == save(dict(reversed(_weights().items())), backbone)


def test_a_flipped_byte_is_detected(backbone):
    checkpoint = save(_weights(), backbone)
    path = locate(checkpoint.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingArtifact, match="damaged"):
        load(checkpoint)
