"""Weights in the layout of Hugging Face: CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343) of transformers.

Sizes, activations and tokens are read off the built model, not off its description. What transformers has no place
for shows in two ways, and both are refused: tensors without a name there, and features that come out different.
"""

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5  # of a feature, relative to the largest; what another order of adding leaves is below 1e-6
_ATTENTION = ("q_proj", "k_proj", "v_proj")
_SIGLIP_HEAD = "vision_model.head"


def to_hugging_face(module: nn.Module, tokens: Tensor) -> nn.Module:
    """The CLIPModel or SiglipModel of transformers with the weights of `module`, in evaluation mode.

    `tokens` [texts, context length]: texts on which both must agree; the end of text is the highest token of the
    first. Raises ValueError for architectures that have no counterpart there.
    """
    with torch.random.fork_rng():
        model, weights = (_siglip if _is_siglip(module) else _clip)(module, tokens)
    found, expected = set(weights), set(model.state_dict())
    if found != expected:
        different = ", ".join(sorted(found ^ expected)[:4])
        raise ValueError(_refusal(module, f"these tensors are in one of both only: {different}"))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(_refusal(module, str(error).replace("\n", " "))) from error
    _check_equal(module, model.eval(), tokens)
    return model


def features(model: nn.Module, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The features [batch, dim] that a model of transformers gives for pixel values and token ids, not normalised."""
    with torch.no_grad():
        return (
            model.get_image_features(pixel_values=images).pooler_output,
            model.get_text_features(input_ids=tokens).pooler_output,
        )


def _is_siglip(module: nn.Module) -> bool:
    trunk = getattr(module.visual, "trunk", None)
    return type(getattr(trunk, "attn_pool", None)).__name__ == "AttentionPoolLatent"


def _clip(module: nn.Module, tokens: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import CLIPConfig, CLIPModel

    text, visual = getattr(module, "text", module), module.visual
    if not hasattr(visual, "class_embedding") or not hasattr(text, "transformer") or hasattr(text, "config"):
        raise ValueError(_refusal(module, "its towers are not the two transformers of CLIP"))
    if not hasattr(text.transformer, "resblocks") or text.text_projection is None or visual.proj is None:
        raise ValueError(_refusal(module, "its towers have no projection into a common space"))
    dim = visual.proj.shape[1]
    config = CLIPConfig(
        text_config=_tower(text.transformer.resblocks, text.ln_final, dim)
        | {"vocab_size": text.token_embedding.num_embeddings, "max_position_embeddings": len(text.positional_embedding),
           "eos_token_id": int(tokens[0].max()), "bos_token_id": int(tokens[0, 0]), "pad_token_id": 0},
        vision_config=_tower(visual.transformer.resblocks, visual.ln_post, dim)
        | {"image_size": visual.image_size[0], "patch_size": visual.patch_size[0]},
        projection_dim=dim,
    )  # fmt: skip
    return CLIPModel(config), _clip_weights(dict(module.state_dict()))


def _clip_weights(left: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by their names in transformers; those without one keep theirs, and show as unknown."""
    left = {key.removeprefix("text."): tensor for key, tensor in left.items() if not key.endswith("attn_mask")}
    made = {"logit_scale": left.pop("logit_scale")}
    for ours, theirs in (("text_projection", "text_projection"), ("visual.proj", "visual_projection")):
        if f"{ours}.weight" in left:  # a layer, where it has a bias
            made[f"{theirs}.weight"] = left.pop(f"{ours}.weight")
        else:
            made[f"{theirs}.weight"] = left.pop(ours).T.contiguous()
    places = {
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    places |= _layer_norm("visual.ln_pre", "vision_model.pre_layrnorm")
    places |= _layer_norm("visual.ln_post", "vision_model.post_layernorm")
    places |= _layer_norm("ln_final", "text_model.final_layer_norm")
    for key in sorted(left):
        name = places.get(key) or _in_block(key, "visual.transformer.resblocks.", "vision_model")
        name = name or _in_block(key, "transformer.resblocks.", "text_model") or key
        made |= _named(name, left[key])
    return made


def _siglip(module: nn.Module, tokens: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    from transformers import SiglipConfig, SiglipModel

    text, trunk = getattr(module, "text", None), module.visual.trunk
    if not isinstance(getattr(text, "text_projection", None), nn.Linear) or not hasattr(text.transformer, "resblocks"):
        raise ValueError(_refusal(module, "its text tower is not that of SigLIP"))
    first, patches = trunk.blocks[0], trunk.patch_embed
    config = SiglipConfig(
        text_config=_tower(text.transformer.resblocks, text.ln_final, None)
        | {"vocab_size": text.token_embedding.num_embeddings, "max_position_embeddings": len(text.positional_embedding),
           "projection_size": text.text_projection.out_features,
           "bos_token_id": None, "eos_token_id": None, "pad_token_id": None},  # pools the last place, whatever is there
        vision_config={"hidden_size": trunk.embed_dim, "intermediate_size": first.mlp.fc1.out_features,
                       "num_hidden_layers": len(trunk.blocks), "num_attention_heads": first.attn.num_heads,
                       "hidden_act": _activation(first.mlp.act), "layer_norm_eps": trunk.norm.eps,
                       "image_size": patches.img_size[0], "patch_size": patches.patch_size[0]},
    )  # fmt: skip
    return SiglipModel(config), _siglip_weights(dict(module.state_dict()))


def _siglip_weights(left: dict[str, Tensor]) -> dict[str, Tensor]:
    made = {name: left.pop(name).reshape(1) for name in ("logit_scale", "logit_bias") if name in left}
    for kind in ("weight", "bias"):  # the pooling keeps its query apart from keys and values
        parts = [left.pop(f"visual.trunk.attn_pool.{part}.{kind}") for part in ("q", "kv")]
        made[f"{_SIGLIP_HEAD}.attention.in_proj_{kind}"] = torch.cat(parts)
    places = {
        "visual.trunk.attn_pool.latent": f"{_SIGLIP_HEAD}.probe",
        "visual.trunk.pos_embed": "vision_model.embeddings.position_embedding.weight",
        "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
    }
    for ours, theirs in (
        ("visual.trunk.patch_embed.proj", "vision_model.embeddings.patch_embedding"),
        ("visual.trunk.norm", "vision_model.post_layernorm"),
        ("visual.trunk.attn_pool.proj", f"{_SIGLIP_HEAD}.attention.out_proj"),
        ("visual.trunk.attn_pool.norm", f"{_SIGLIP_HEAD}.layernorm"),
        ("visual.trunk.attn_pool.mlp.fc1", f"{_SIGLIP_HEAD}.mlp.fc1"),
        ("visual.trunk.attn_pool.mlp.fc2", f"{_SIGLIP_HEAD}.mlp.fc2"),
        ("text.ln_final", "text_model.final_layer_norm"),
        ("text.text_projection", "text_model.head"),
    ):
        places |= _layer_norm(ours, theirs)
    for key in sorted(left):
        name = places.get(key) or _in_block(key, "visual.trunk.blocks.", "vision_model")
        name = name or _in_block(key, "text.transformer.resblocks.", "text_model") or key
        tensor = left[key]
        made |= _named(name, tensor.squeeze(0) if name.endswith("vision_model.embeddings.position_embedding.weight")
                       else tensor)  # fmt: skip
    return made


def _layer_norm(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


_IN_BLOCK = {  # of OpenCLIP and of timm
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2", "attn.in_proj": "self_attn.packed", "norm1": "layer_norm1", "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2", "attn.qkv": "self_attn.packed",
}  # fmt: skip


def _in_block(key: str, prefix: str, tower: str) -> str | None:
    if not key.startswith(prefix):
        return None
    number, _, part = key.removeprefix(prefix).partition(".")
    part = part.replace("in_proj_", "in_proj.")  # OpenCLIP's packed projection is no layer
    place, _, kind = part.rpartition(".")
    return f"{tower}.encoder.layers.{number}.{_IN_BLOCK[place]}.{kind}" if place in _IN_BLOCK else None


def _named(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """The tensor by its name; queries, keys and values packed into one become three."""
    if ".packed." not in name:
        return {name: tensor}
    return {
        name.replace("packed", part): piece.contiguous()
        for part, piece in zip(_ATTENTION, tensor.chunk(3), strict=True)
    }


def _tower(blocks: nn.ModuleList, norm: nn.Module, dim: int | None) -> dict:
    first = blocks[0]
    if not isinstance(getattr(first, "attn", None), nn.MultiheadAttention):
        raise ValueError(f"no Hugging Face layout: attention of the class {type(first.attn).__name__} is not in it")
    sizes = {
        "hidden_size": first.attn.embed_dim,
        "intermediate_size": first.mlp.c_fc.out_features,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": first.attn.num_heads,
        "hidden_act": _activation(first.mlp.gelu),
        "layer_norm_eps": norm.eps,
    }
    return sizes | ({} if dim is None else {"projection_dim": dim})


def _activation(act: nn.Module) -> str:
    if isinstance(act, nn.GELU):
        return "gelu" if act.approximate == "none" else "gelu_pytorch_tanh"
    if type(act).__name__ == "QuickGELU":
        return "quick_gelu"
    raise ValueError(f"no Hugging Face layout: the activation {type(act).__name__} is not in it")


def _check_equal(module: nn.Module, model: nn.Module, tokens: Tensor) -> None:
    """Raise ValueError unless both give equal features for random images and for `tokens`."""
    size = model.config.vision_config.image_size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = module.encode_image(images), module.encode_text(tokens)
    for what, mine, theirs in zip(("images", "texts"), ours, features(model, images, tokens), strict=True):
        apart = ((mine - theirs).abs().max() / mine.abs().max()).item()
        if not apart <= TOLERANCE:
            raise ValueError(_refusal(module, f"features of {what} come out {apart:.1e} apart"))


def _refusal(module: nn.Module, why: str) -> str:
    tower = type(getattr(module.visual, "trunk", module.visual)).__name__
    return (
        f"this model (image tower {tower}) has no Hugging Face layout: {why}; "
        "export it with `--layout open_clip`, which holds every model"
    )
