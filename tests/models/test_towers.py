"""Every parameter and matrix of every family has its place."""

import re

import pytest
import torch
from torch import nn

from models import clip, towers
from models.attention import unpack_attention
from tests.models.families import FAMILIES, write_family

ROLES = ("query", "key", "value", "attention_output", "mlp_first", "mlp_second")
PUBLISHED = ["ViT-B-16", "RN50", "convnext_base_w", "ViT-B-16-SigLIP2", "EVA02-B-16", "PE-Core-B-16", "MobileCLIP-S1",
             "ViTamin-B", "swin_base_patch4_window7_224", "vit_relpos_medium_patch16_cls_224"]  # fmt: skip
UNADAPTED = re.compile(r"text_projection|visual\.head|trunk\.head|text\.proj\.|text_decoder|downsample|rel_pos")


@pytest.fixture(scope="module", params=[*FAMILIES, *PUBLISHED])
def model(request, tmp_path_factory):
    """A model of a family without weights, its attention unpacked."""
    name = request.param
    if name in FAMILIES:
        name = write_family(name, tmp_path_factory.mktemp("family") / name)
    with torch.device("meta"):
        empty = clip.build_empty(clip.describe(name, with_tokenizer=False), "meta")
        unpack_attention(empty)
    return empty


def _published(name):
    return clip.build_empty(clip.describe(name, with_tokenizer=False), "meta")


def _tiny(name, tmp_path):
    return clip.build_empty(clip.describe(write_family(name, tmp_path / name)), "meta")


def test_both_towers_have_blocks_in_the_order_they_run(model):
    for tower, names in towers.blocks(model).items():
        assert len(names) > 1 and {towers.tower_of(name) for name in names} == {tower}
        keys = [[int(part) for part in re.findall(r"\d+", name)] for name in names]
        assert keys == sorted(keys)


def test_every_parameter_inside_a_block_has_its_depth(model):
    depths, places = towers.depth_of(model), towers.blocks(model)
    for names in places.values():
        for depth, block in enumerate(names, 1):
            inside = {at for name, at in depths.items() if name.startswith(f"{block}.")}
            assert inside == {(depth, len(names) + 1)}


def test_embeddings_come_first_and_projections_last(model):
    for name, (layer, last) in towers.depth_of(model).items():
        if re.search(r"(token|word)_embedding|embed_tokens|patch_embed|class_embedding|stem|cls_emb", name):
            assert layer == 0, name
        if re.search(r"projection|visual\.(proj|head)|text\.proj|attn_?pool|logit_|ln_(final|post)|fc_norm", name):
            assert layer == last, name


def test_names_alone_place_parameters_and_buffers_as_the_model_does_in_any_order(model):
    found, depths = towers.layers_of(sorted(model.state_dict(), reverse=True)), towers.depth_of(model)
    assert {name: found[name] for name in depths} == {name: (towers.tower_of(name), *depths[name]) for name in depths}
    for tower, names in towers.blocks(model).items():
        assert {layer for place, layer, _ in found.values() if place == tower} == set(range(len(names) + 2))


@pytest.mark.parametrize(
    "name, place",
    [
        ("vision_model.embeddings.class_embedding", ("image", 0, 4)),
        ("vision_model.pre_layrnorm.weight", ("image", 0, 4)),
        ("vision_model.encoder.layers.2.mlp.fc1.weight", ("image", 3, 4)),
        ("vision_model.head.probe", ("image", 4, 4)),
        ("visual_projection.weight", ("image", 4, 4)),
        ("text_model.embeddings.token_embedding.weight", ("text", 0, 12)),
        ("text_model.encoder.layers.10.self_attn.q_proj.bias", ("text", 11, 12)),
        ("text_model.final_layer_norm.weight", ("text", 12, 12)),
        ("text_projection.weight", ("text", 12, 12)),
        ("logit_scale", ("shared", 1, 1)),
    ],
)
def test_the_names_of_hugging_face_are_placed(name, place):
    sizes = {"vision": 3, "text": 11}
    blocks = [f"{tower}_model.encoder.layers.{i}.a.weight" for tower, count in sizes.items() for i in range(count)]
    assert towers.layers_of([*blocks, name])[name] == place


@pytest.mark.parametrize("prefix", ["", "module.", "clip.", "_orig_mod.model."])
@pytest.mark.parametrize(
    "image, text",
    [
        ("vision_model.encoder.layers.{}.mlp.fc1.weight", "text_model.encoder.layer.{}.output.dense.weight"),
        ("vision_model.encoder.layer.{}.output.dense.bias", "text_model.roberta.encoder.layer.{}.output.dense.bias"),
        ("visual.blocks.{}.attn.q_proj.weight", "text.transformer.resblocks.{}.mlp.c_fc.weight"),
        ("visual.trunk.blocks.{}.mlp.fc1.weight", "text.transformer.resblocks.{}.mlp.c_fc.weight"),
        ("visual.transformer.resblocks.{}.mlp.c_fc.weight", "bert.encoder.layer.{}.output.dense.weight"),
        ("vision_model.blocks.{}.mlp.w1.weight", "text_model.transformer.encoder.layers.{}.mlp.fc1.weight"),
    ],
)
def test_towers_and_blocks_of_other_code_are_found_whatever_stands_before_them(prefix, image, text):
    found = towers.layers_of(prefix + name.format(i) for name, count in ((image, 3), (text, 2)) for i in range(count))
    assert list(found.values()) == [("image", i, 4) for i in (1, 2, 3)] + [("text", i, 3) for i in (1, 2)]


def test_a_stage_has_its_place_whatever_stands_before_it():
    blocks = [f"module.visual.trunk.stages.{i}.blocks.0.mlp.fc1.weight" for i in range(2)]
    found = towers.layers_of([*blocks, "module.visual.trunk.stages.1.downsample.1.weight"])
    assert [layer for _, layer, _ in found.values()] == [1, 2, 2]


def test_every_linear_map_inside_the_towers_has_one_role(model):
    roles = {role: set(towers.linear_places(model, [role])) for role in ROLES}
    found = [name for names in roles.values() for name in names]
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert len(found) == len(set(found)) and set(found) == {name for name in linears if not UNADAPTED.search(name)}


def test_norms_and_nothing_else_are_norm_parameters(model):
    norms = towers.norm_parameters(model)
    assert all(model.get_parameter(name).dim() == 1 for name in norms)
    flat = {name for name, weight in model.named_parameters() if weight.dim() == 1 and name.endswith("weight")}
    assert {name for name in norms if name.endswith("weight")} == flat


def test_the_bias_of_the_loss_is_no_bias_of_a_tower(tmp_path):
    model = _tiny("siglip", tmp_path)
    assert "logit_bias" in dict(model.named_parameters())
    assert "logit_bias" not in towers.bias_parameters(model) and "text.ln_final.bias" in towers.bias_parameters(model)
    assert towers.tower_of("logit_bias") == towers.tower_of("logit_scale") == "shared"


def test_what_changes_the_resolution_counts_with_the_blocks_behind_it():
    depths = towers.depth_of(_published("convnext_base_w"))
    before, behind = "visual.trunk.stages.2.downsample.1.weight", "visual.trunk.stages.2.blocks.0.mlp.fc1.weight"
    assert depths[before] == depths[behind] == (7, 37)


def test_places_come_in_the_order_of_the_model_whatever_the_order_of_roles():
    model = _published("RN50")
    places = towers.linear_places(model, ("mlp_second", "query"))
    assert places[0] == "visual.attnpool.q_proj" and places == towers.linear_places(model, ("query", "mlp_second"))


def test_a_role_that_no_linear_map_has_is_refused_with_the_maps_there_are(tmp_path):
    model = _tiny("convnext", tmp_path)
    model.transformer = nn.Identity()
    with pytest.raises(ValueError, match=r"is its query; it has .*visual\.trunk\.stages\.#\.blocks\.#\.mlp\.fc1"):
        towers.linear_places(model, ("query", "mlp_second"))
