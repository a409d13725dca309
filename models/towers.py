"""Where things sit in a two-tower model of any OpenCLIP family: towers, layers, normalisation, linear maps by role.

Families: OpenCLIP's own ViT and text transformer, ResNet, timm towers (ViT of SigLIP, EVA, ConvNeXt, FastViT, Swin),
Hugging Face text towers (BERT and its kin, mT5, NLLB). Everything goes by the names and classes of modules; nothing
here changes a model. CoCa's decoder of captions is part of neither tower. What goes by names alone also knows the names
of EVA's and Chinese-CLIP's own code and of Hugging Face's CLIP, SigLIP and other pairs of towers, whatever stands
before them (`module.`, `clip.`), so that their files can be read without building a model.
"""

import re
from collections.abc import Collection, Iterable
from typing import Literal

from torch import nn

Tower = Literal["image", "text", "shared"]
Role = Literal["query", "key", "value", "attention_output", "mlp_first", "mlp_second"]

_SHARED = ("logit_scale", "logit_bias")
_IMAGE = ("visual", "vision_model", "visual_projection")  # OpenCLIP; Hugging Face
_BLOCK = re.compile(
    r"(?:^|\.)("
    r"resblocks\.\d+"  # OpenCLIP's transformers
    r"|trunk\.blocks\.\d+"  # timm ViT
    r"|(?P<stage>trunk\.(?:stages|layers)\.\d+)\.blocks\.\d+"  # timm ConvNeXt, FastViT; Swin
    r"|(?:visual|vision_model)\.blocks\.\d+"  # EVA's own code; Jina's
    r"|visual\.layer\d+\.\d+"  # ResNet
    r"|text\.transformer\.(?:encoder\.layer|block|layers)\.\d+"  # Hugging Face: BERT and its kin; mT5; NLLB
    r"|(?:vision|text)_model\.(?:\w+\.)?encoder\.layers?\.\d+"  # Hugging Face's CLIP, SigLIP, Chinese-CLIP, AltCLIP
    r"|bert\.encoder\.layer\.\d+"  # Chinese-CLIP's own code
    r")$"
)
_ENDINGS: dict[str, tuple[str, ...]] = {
    "query": ("q_proj", "attn_pool.q", "attention.self.query", "SelfAttention.q"),
    "key": ("k_proj", "attention.self.key", "SelfAttention.k"),
    "value": ("v_proj", "attention.self.value", "SelfAttention.v"),
    "attention_output": (
        *("attn.out_proj", "attnpool.c_proj"),  # OpenCLIP
        *("attn.proj", "attn_pool.proj", "token_mixer.proj"),  # timm
        *("attention.output.dense", "SelfAttention.o", "self_attn.out_proj"),
    ),
    "mlp_first": (
        "mlp.c_fc",
        *("mlp.fc1", "mlp.fc1_g", "mlp.fc1_x", "mlp.w0", "mlp.w1"),  # timm; two where one gates the other
        *("intermediate.dense", "DenseReluDense.wi", "DenseReluDense.wi_0", "DenseReluDense.wi_1", "layers.#.fc1"),
    ),
    "mlp_second": (
        *("mlp.c_proj", "mlp.fc2", "mlp.w2"),
        *("layer.#.output.dense", "DenseReluDense.wo", "layers.#.fc2"),
    ),
}
_ASIDE = re.compile(
    r"(?:^|\.)text_decoder\.|\.rel_pos\."
)  # CoCa's decoder, which the loss does not reach; timm's biases
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._BatchNorm)


def tower_of(name: str) -> Tower:
    """The tower a parameter or module belongs to; temperature and bias of the loss belong to neither."""
    if name.rpartition(".")[2] in _SHARED:
        return "shared"
    return "image" if any(part in _IMAGE for part in name.split(".")) else "text"


def blocks(model: nn.Module) -> dict[str, list[str]]:
    """Tower -> the names of its blocks, from input to output."""
    return _blocks(name for name, _ in model.named_modules())


def layers_of(names: Iterable[str]) -> dict[str, tuple[Tower, int, int]]:
    """Parameter or buffer -> (tower, layer, last layer of the tower), from the names of all of a model.

    Layer 0 is embeddings and stem, 1.. the blocks, the last one all behind them. What stands before the blocks of a
    stage counts with the first of them, what belongs to no tower as last.
    """
    names = list(names)
    places = _blocks(prefix for name in names for prefix in _prefixes(name))
    layer = {block: i for found in places.values() for i, block in enumerate(found, 1)}
    for block, i in list(layer.items()):
        if (found := _BLOCK.search(block))["stage"]:
            layer.setdefault(block[: found.end("stage")], i)
    return {name: (tower_of(name), *_depth(name, layer, len(places.get(tower_of(name), ())) + 1)) for name in names}


def depth_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Parameter -> (layer, last layer of its tower), as in `layers_of`."""
    found = layers_of(name for name, _ in model.named_parameters())
    return {name: (layer, last) for name, (_, layer, last) in found.items()}


def norm_parameters(model: nn.Module) -> set[str]:
    """The parameters of normalisation layers of any kind."""
    return {
        f"{module}.{name}" if module else name
        for module, layer in model.named_modules()
        if isinstance(layer, _NORMS) or "norm" in type(layer).__name__.lower()
        for name, _ in layer.named_parameters(recurse=False)
    }


def bias_parameters(model: nn.Module) -> set[str]:
    """The parameters whose name contains `bias`, but for the one of the sigmoid loss."""
    return {name for name, _ in model.named_parameters() if "bias" in name and tower_of(name) != "shared"}


def linear_places(model: nn.Module, where: Collection[str]) -> list[str]:
    """The names of the linear maps with the roles `where`, in the order of the model, whose attention is unpacked.

    Raises ValueError for a role that no linear map of the model has.
    """
    linears = [name for name, module in model.named_modules() if _is_linear(module) and not _ASIDE.search(name)]
    found = {role: [name for name in linears if _has_role(name, role)] for role in where}
    if missing := [role for role, names in found.items() if not names]:
        kinds = sorted({_general(name) for name in linears})
        raise ValueError(f"no linear map of this model is its {', '.join(missing)}; it has {', '.join(kinds)}")
    chosen = {name for names in found.values() for name in names}
    return [name for name in linears if name in chosen]


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _has_role(name: str, role: str) -> bool:
    general = _general(name)
    return any(general == ending or general.endswith(f".{ending}") for ending in _ENDINGS[role])


def _general(name: str) -> str:
    """`name` without the positions in it."""
    return re.sub(r"\.\d+(?=\.|$)", ".#", name)


def _blocks(names: Iterable[str]) -> dict[str, list[str]]:
    """The blocks among the names of modules, by tower and in the order of the numbers in them."""
    found: dict[str, list[str]] = {"image": [], "text": []}
    for name in dict.fromkeys(names):
        if _BLOCK.search(name) and not _ASIDE.search(name):
            found[tower_of(name)].append(name)
    return {tower: sorted(place, key=_numbers) for tower, place in found.items()}


def _numbers(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _prefixes(name: str) -> list[str]:
    """`name` and the modules around it, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _depth(name: str, layer: dict[str, int], last: int) -> tuple[int, int]:
    for prefix in _prefixes(name):
        if (depth := layer.get(prefix)) is not None:
            return depth, last
    return (0 if _is_input(name) else last), last


def _is_input(name: str) -> bool:
    """Whether a parameter outside the blocks stands before them."""
    inputs = r"(embed|cls_emb|conv[123]|bn[123]|ln_pre|norm_pre|pre_laye?rnorm|stem|patch|cls_token|reg_token)"
    behind = r"(attnpool|attn_pool|projection|pooler|ln_final|ln_post)"
    return tower_of(name) != "shared" and bool(re.search(inputs, name)) and not re.search(behind, name)
