"""Lengths and angles of task vectors are those of the whole vectors, whatever is read in parts."""

import math

import pytest
import torch
from safetensors.torch import save_file

from models.merging import parts
from models.merging.geometry import measure
from models.merging.parts import BLOCK

NAMES = {
    "visual.conv1.weight": (4, 3, 2, 2),
    "visual.transformer.resblocks.0.mlp.c_fc.weight": (8, 4),
    "visual.transformer.resblocks.1.mlp.c_fc.weight": (8, 4),
    "visual.proj": (4, 4),
    "transformer.resblocks.0.mlp.c_fc.weight": (8, 4),
    "token_embedding.weight": (5, 4),
    "logit_scale": (),
}


def weights(seed, names=NAMES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in names.items()}


@pytest.fixture
def write(tmp_path):
    def written(*several):
        paths = [tmp_path / f"{i}.safetensors" for i in range(len(several))]
        for path, tensors in zip(paths, several, strict=True):
            save_file(tensors, path)
        return paths

    return written


def flat(tensors, *starts):
    chosen = [tensor.double().flatten() for name, tensor in sorted(tensors.items()) if name.startswith(starts)]
    return torch.cat(chosen)


def measured(paths):
    return measure(paths[0], paths[1:])


def test_norms_and_cosines_are_those_of_the_flattened_weights(write):
    several = [weights(seed) for seed in range(4)]
    found = measured(write(*several))
    halves = {"image": ("visual.",), "text": ("transformer.", "token_"), "shared": ("logit_",), "all": ("",)}
    assert [extent.tower for extent in found.towers] == ["image", "text", "shared"]
    for extent in (*found.towers, found.whole):
        origin, *vectors = (flat(tensors, *halves[extent.tower]) for tensors in several)
        vectors = torch.stack(vectors) - origin
        assert extent.values == len(origin) and math.isclose(extent.origin_norm, origin.norm(), rel_tol=1e-6)
        torch.testing.assert_close(torch.tensor(extent.norms).double(), vectors.norm(dim=1), rtol=1e-6, atol=0)
        wanted = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
        torch.testing.assert_close(torch.tensor(extent.cosines).double(), wanted, rtol=0, atol=1e-6)


def test_layers_come_from_input_to_output_tower_by_tower(write):
    found = measured(write(weights(0), weights(1)))
    assert [(extent.tower, extent.layer) for extent in found.layers] == [
        ("image", "stem"), ("image", "block 1"), ("image", "block 2"), ("image", "head"),
        ("text", "stem"), ("text", "block 1"), ("shared", "head"),
    ]  # fmt: skip
    assert sum(extent.values for extent in found.layers) == found.whole.values


def test_the_drift_of_a_layer_is_relative_to_its_own_weights(write):
    origin, name = weights(0), "visual.transformer.resblocks.1.mlp.c_fc.weight"
    layers = measured(write(origin, origin | {name: 1.5 * origin[name]})).layers
    drift = {(extent.tower, extent.layer): extent.drift for extent in layers}
    assert drift.pop(("image", "block 2")) == pytest.approx([0.5]) and set(drift.values()) == {(0,)}


def test_consecutive_task_vectors_are_compared_in_the_order_given(write):
    origin = {"visual.proj": torch.zeros(2)}
    ahead, across, back = ({"visual.proj": torch.tensor(to)} for to in ([1.0, 0.0], [0.0, 2.0], [0.0, -1.0]))
    found = measured(write(origin, ahead, across, back)).whole
    assert found.consecutive == (0, -1) and found.norms == (1, 2, 1)


def test_what_did_not_move_has_no_direction_and_what_was_zero_no_drift(write):
    origin = {"visual.proj": torch.zeros(2)}
    found = measured(write(origin, origin, {"visual.proj": torch.ones(2)})).whole
    assert found.cosines == ((None, None), (None, 1)) and found.drift == (None, None)


def test_hugging_face_names_have_towers_and_layers(write):
    names = {"vision_model.encoder.layers.3.mlp.fc1.weight": (2,), "text_model.embeddings.token_embedding.weight": (3,)}
    found = measured(write(weights(0, names), weights(1, names)))
    assert [(extent.tower, extent.layer) for extent in found.layers] == [("image", "block 1"), ("text", "stem")]


def test_no_bit_depends_on_threads_or_on_how_files_are_cut(write, monkeypatch):
    names = {"visual.transformer.resblocks.0.a.weight": (3 * BLOCK + 77,), "text.a": (2 * BLOCK, 1)}
    paths = write(*(weights(seed, names) for seed in range(3)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        whole = measured(paths)
        torch.set_num_threads(1)
        monkeypatch.setattr(parts, "_PART_BYTES", 4 * 3 * BLOCK)
        assert measured(paths) == whole
    finally:
        torch.set_num_threads(threads)


def test_long_sums_keep_the_precision_of_doubles(write):
    step = torch.full((1_000_000,), 1e-4)
    found = measured(write({"visual.proj": torch.zeros(1_000_000)}, {"visual.proj": step}))
    assert found.whole.norms[0] == pytest.approx(1000 * float(step[0]), rel=1e-12)


def test_half_precision_is_compared_with_full(write):
    origin = weights(0)
    found = measured(write(origin, weights(0, dtype=torch.bfloat16)))
    assert 0 < found.whole.drift[0] < 2**-8


def test_integers_are_left_aside(write):
    origin = weights(0) | {"visual.bn1.num_batches_tracked": torch.tensor(3)}
    found = measured(write(origin, origin | {"visual.bn1.num_batches_tracked": torch.tensor(9)}))
    assert found.whole.norms == (0,)
    with pytest.raises(ValueError, match="no tensor of floating-point numbers"):
        measured(write({"a": torch.ones(2, dtype=torch.int64)}, {"a": torch.ones(2, dtype=torch.int64)}))


def test_infinities_of_a_mask_count_as_nothing_and_all_others_are_refused(write):
    mask = {"text.mask": torch.tensor([0.0, -torch.inf]), "visual.proj": torch.ones(2)}
    assert measured(write(mask, mask | {"visual.proj": torch.zeros(2)})).whole.norms == pytest.approx([math.sqrt(2)])
    paths = write(mask, mask, mask | {"text.mask": torch.tensor([torch.nan, -torch.inf])})
    with pytest.raises(ValueError, match=r"'text\.mask' holds values that are not finite in .*2\.safetensors"):
        measured(paths)


def test_other_layouts_are_refused_with_names_and_shapes(write):
    other = weights(1, {**NAMES, "visual.proj": (4, 5), "extra": (1,)})
    with pytest.raises(ValueError, match=r"'extra' only in .*2\.safetensors; 'visual\.proj' \[4, 4\] and \[4, 5\]"):
        measured(write(weights(0), weights(1), other))


def test_progress_grows_to_one(write):
    paths, heard = write(weights(0), weights(1)), []
    measure(paths[0], paths[1:], heard.append)
    assert heard == sorted(heard) and heard[-1] == 1 and len(heard) == len(NAMES)
