"""The backbone: any OpenCLIP model by name or folder, its tokenizer and its preprocessing.

The one file that imports open_clip, and only inside functions: it takes seconds, and a run that re-uses everything
builds no model.
"""

import contextlib
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from data_catalog.refs import Spec
from data_catalog.store import locate, read_bytes, write_bytes
from models.checkpoints import CheckpointRef, load, save
from models.hugging_face import TOWER_FOLDER, store_tokenizer, store_tower_config, write_tokenizer, write_tower_config

CONFIG_FILE = "open_clip_config.json"
_WEIGHTS = (".safetensors", ".bin", ".pth")  # where OpenCLIP looks for them in a folder


class Preprocessing(Spec):
    """What an image becomes before it enters the image tower."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_mode: Literal["shortest", "squash"] = "shortest"  # cropped to its centre, or distorted, as for SigLIP


def import_checkpoint(model: str, pretrained: str | None = None) -> CheckpointRef:
    """Store the weights of an OpenCLIP model and return their reference.

    `model`: a name OpenCLIP knows, with `pretrained` a tag or the path of a weights file; or a folder with
    `open_clip_config.json` and `open_clip_model.safetensors`. Raises ValueError when there are no weights, or no
    tokenizer or text tower of Hugging Face where the model needs one.
    """
    _check_model(model)
    with _quiet():
        _check_weights(model, pretrained)
        quick = _wants_quick_gelu(model, pretrained)
        module = _with_weights(model, pretrained, quick)
    backbone = describe(model, module, quick)
    return save(module.state_dict(), backbone, imported_from=Path(model).name, pretrained=Path(pretrained or "").name)


def initialise(model: str, seed: int) -> CheckpointRef:
    """Store random weights of the architecture `model` (a name or a folder), drawn from `seed`."""
    with _as_folder(_description(model)) as folder, torch.random.fork_rng():
        torch.manual_seed(seed)
        module = _created(folder)
    return save(module.state_dict(), describe(model), initialised_from=Path(model).name, seed=seed)


def describe(model: str, loaded: nn.Module | None = None, quick_gelu: bool = False, with_tokenizer: bool = True) -> str:
    """Store what it takes to build the architecture `model` (a name or a folder) and return the digest.

    `loaded`: the model with its weights, which may prescribe another preprocessing than the architecture does;
    `quick_gelu`: they were trained with that activation; `with_tokenizer`: unless false, a tokenizer of Hugging Face
    is looked up and stored too, as texts need it. Raises ValueError for what cannot be had from there.
    """
    import open_clip

    description = _description(model, with_tokenizer)
    if quick_gelu:
        description["model_cfg"]["quick_gelu"] = True
    if loaded is None:
        with _as_folder(description) as folder, torch.device("meta"), _WithoutRandomInit():
            loaded = _created(folder, device="meta")
    preprocess = open_clip.get_model_preprocess_cfg(loaded)
    description["preprocess_cfg"] = {key: value for key, value in preprocess.items() if value is not None}
    return write_bytes(json.dumps(description, sort_keys=True).encode(), kind="backbone", model=Path(model).name)


def build(checkpoint: CheckpointRef) -> nn.Module:
    """The CLIP module of a checkpoint with its weights, in evaluation mode, on the CPU."""
    module = build_empty(checkpoint.backbone)
    module.load_state_dict(dict(load(checkpoint)))
    return module.eval()


def build_empty(backbone: str, device: str = "cpu") -> nn.Module:
    """The module a backbone description stands for, with weights nobody should rely on.

    Takes no random number: an evaluation beside a training must not disturb the generator that training draws from.
    """
    with _as_folder(read_description(backbone)) as folder, torch.device(device), _WithoutRandomInit():
        return _created(folder, device=device)


def tokenizer(backbone: str) -> Callable[[Sequence[str]], Tensor]:
    """A function from texts to token ids [texts, context length]; longer texts are cut.

    Raises ValueError for a backbone that was described without the tokenizer it needs.
    """
    import open_clip

    description = read_description(backbone)
    wanted = description["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    if wanted and "tokenizer" not in description.get("hugging_face", {}):
        raise ValueError(
            f"the backbone {backbone[:19]} was described without its tokenizer {wanted}: import or initialise the model"
        )
    with _quiet(), _as_folder(description) as folder:
        encode = open_clip.get_tokenizer(f"local-dir:{folder}")
    encode([""])  # sets padding and truncation, which threads that share it must not do at once
    return lambda texts: encode(list(texts))


@lru_cache(maxsize=64)
def preprocessing(backbone: str) -> Preprocessing:
    """Image size, normalisation and the fitting of other shapes; raises ValueError for towers of oblong images."""
    config = read_description(backbone)["preprocess_cfg"]
    height, width = config["size"] if not isinstance(config["size"], int) else [config["size"]] * 2
    if height != width:
        raise ValueError(f"the image tower takes images of {height} x {width} pixels, expected squares")
    mode = config.get("resize_mode", "shortest")
    return Preprocessing(size=height, mean=config["mean"], std=config["std"], resize_mode=mode)


def prompt_templates(name: Literal["simple", "openai"]) -> tuple[str, ...]:
    """The 7 or the 80 templates that OpenCLIP carries for zero-shot classification, with `{}` where a class goes."""
    import open_clip

    known = {"simple": open_clip.SIMPLE_IMAGENET_TEMPLATES, "openai": open_clip.OPENAI_IMAGENET_TEMPLATES}
    return tuple(template("{}") for template in known[name])


def byte_pairs(backbone: str) -> tuple[dict[str, int], list[tuple[str, ...]]] | None:
    """Vocabulary and merges of a tokenizer of OpenCLIP's own kind that lowers case; None for other tokenizers."""
    import open_clip

    text = read_description(backbone)["model_cfg"]["text_cfg"]
    if text.get("hf_tokenizer_name") or text.get("tokenizer_kwargs", {}).get("clean", "lower") != "lower":
        return None
    with _as_folder(read_description(backbone)) as folder:
        own = open_clip.get_tokenizer(f"local-dir:{folder}")
    return dict(own.encoder), sorted(own.bpe_ranks, key=own.bpe_ranks.__getitem__)


def read_description(backbone: str) -> dict:
    """What is stored of a backbone: `model_cfg`, `preprocess_cfg`, and digests where OpenCLIP has paths."""
    return json.loads(read_bytes(backbone))


def context_length(backbone: str) -> int:
    """Token positions of the text tower."""
    return read_description(backbone)["model_cfg"]["text_cfg"].get("context_length", 77)


def normalise(images: Tensor, backbone: str) -> Tensor:
    """`images`: uint8 [batch, 3, size, size]; returns what the image tower expects, in fp32, on the same device."""
    wanted = preprocessing(backbone)
    mean = torch.tensor(wanted.mean, device=images.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(wanted.std, device=images.device).view(1, 3, 1, 1) * 255
    return images.float().sub_(mean).div_(std)  # in place: in fp32 a batch is large


def export_folder(checkpoint: CheckpointRef, folder: Path) -> None:
    """Write `checkpoint` as a folder that `open_clip.create_model("local-dir:...")` loads."""
    write_description(checkpoint.backbone, folder)
    shutil.copyfile(locate(checkpoint.digest), folder / "open_clip_model.safetensors")


def write_description(backbone: str, folder: Path, at: Path | None = None) -> None:
    """Write all but the weights of a model folder; `at`: where it will lie, if it is moved there later.

    OpenCLIP's config names a vocabulary and a text tower of Hugging Face beside it by absolute paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_description(read_description(backbone), folder, at or folder)


def set_patch_dropout(model: nn.Module, share: float) -> None:
    """Let the image tower of `model` leave out this share of its patches in training (arXiv 2212.00794, section 3).

    Raises ValueError for towers without patches.
    """
    tower = getattr(model.visual, "trunk", model.visual)  # of timm, or OpenCLIP's own
    if hasattr(tower, "patch_dropout"):
        from open_clip.transformer import PatchDropout

        tower.patch_dropout = PatchDropout(share)
    elif hasattr(tower, "patch_drop"):
        from timm.layers import PatchDropout, PatchDropoutWithIndices
        from timm.models.eva import Eva

        kind = PatchDropoutWithIndices if isinstance(tower, Eva) else PatchDropout  # it turns patches by their place
        tower.patch_drop = kind(share, num_prefix_tokens=tower.num_prefix_tokens)
    else:
        raise ValueError(
            f"`patch_dropout` is {share}, but an image tower of the class {type(tower).__name__} has no patches to "
            "leave out; set it to 0"
        )


class _WithoutRandomInit(TorchFunctionMode):
    """Leaves tensors of this thread as allocated where a constructor would fill them from the global generator."""

    _filling = frozenset(
        {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "xavier_uniform_", "kaiming_normal_"}
    )
    _making = frozenset({"randn", "rand"})

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in self._filling:
            return args[0] if args else kwargs["tensor"]
        if name in self._making:
            return torch.zeros(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _description(model: str, with_tokenizer: bool = True) -> dict:
    """The config of `model`, a name or a folder, with the digests of all files it needs in place of their paths."""
    import open_clip

    _check_model(model)
    folder = Path(model) if _is_folder(model) else None
    own = json.loads((folder / CONFIG_FILE).read_text()) if folder else {}
    config = json.loads(json.dumps(own["model_cfg"] if folder else open_clip.get_model_config(model)))
    text, hugging_face = config["text_cfg"], {}
    merges = text.get("tokenizer_kwargs", {})
    if "bpe_path" in merges:
        merges["bpe_path"] = write_bytes(_merges(folder, merges["bpe_path"]).read_bytes(), kind="bpe merges")
    if with_tokenizer and text.get("hf_tokenizer_name"):
        hugging_face["tokenizer"] = store_tokenizer(text["hf_tokenizer_name"], folder)
        if Path(text["hf_tokenizer_name"]).is_absolute():
            text["hf_tokenizer_name"] = "."  # OpenCLIP looks in the model's folder, whatever stands here
    if text.get("hf_model_name"):
        hugging_face["text_tower"] = store_tower_config(text["hf_model_name"], folder)
        text["hf_model_name"] = TOWER_FOLDER
    description = {"model_cfg": config, "preprocess_cfg": own.get("preprocess_cfg", {})}
    return description | ({"hugging_face": hugging_face} if hugging_face else {})


def _merges(folder: Path | None, path: str) -> Path:
    """The file of merges; for a path of another machine, the one of that name in the model's folder."""
    places = [folder / path, folder / Path(path).name] if folder else [Path(path)]
    if found := next((place for place in places if place.is_file()), None):
        return found
    raise ValueError(f"`bpe_path` of the tokenizer is {path}, which is no file, nor in {folder}: put it there")


def _with_weights(model: str, pretrained: str | None, quick_gelu: bool) -> nn.Module:
    import open_clip

    if not _is_folder(model):
        return open_clip.create_model(
            model, pretrained=pretrained, require_pretrained=True, force_quick_gelu=quick_gelu
        )
    with _as_folder(_description(model)) as folder:
        for file in Path(model).resolve().iterdir():
            if file.suffix in _WEIGHTS:
                (Path(folder) / file.name).symlink_to(file)
        return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True)


def _created(folder: str, device: str = "cpu") -> nn.Module:
    """The model in a folder without weights."""
    import open_clip

    with _quiet():
        return open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False, device=device)


@contextlib.contextmanager
def _as_folder(description: dict) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        _write_description(description, Path(folder), Path(folder))
        yield folder


def _write_description(description: dict, folder: Path, at: Path) -> None:
    """Write the folder OpenCLIP loads a description from; its config names other files there by absolute paths."""
    config = json.loads(json.dumps(description))
    text, hugging_face = config["model_cfg"]["text_cfg"], config.pop("hugging_face", {})
    merges = text.get("tokenizer_kwargs", {})
    if "bpe_path" in merges:
        (folder / "bpe.txt.gz").write_bytes(read_bytes(merges["bpe_path"]))
        merges["bpe_path"] = str(at.resolve() / "bpe.txt.gz")
    write_tokenizer(hugging_face.get("tokenizer", {}), folder)
    if "text_tower" in hugging_face:
        written = write_tower_config(hugging_face["text_tower"], folder)
        text["hf_model_name"] = str(at.resolve() / Path(written).name)
    (folder / CONFIG_FILE).write_text(json.dumps(config))


def _is_folder(model: str) -> bool:
    return Path(model).is_dir()


def _check_model(model: str) -> None:
    """Raises ValueError if `model` is no folder and OpenCLIP knows nothing of that name."""
    import open_clip

    if not _is_folder(model) and model not in open_clip.list_models():
        raise ValueError(
            f"{model!r} is neither a folder with {CONFIG_FILE} nor a model OpenCLIP knows; "
            "list them with `python -c 'import open_clip; print(open_clip.list_models())'`"
        )


def _check_weights(model: str, weights: str | None) -> None:
    import open_clip

    if _is_folder(model) or (weights and Path(weights).is_file()):
        return
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights not in tags:
        raise ValueError(
            f"model {model!r} was given with weights {weights!r}: expected one of {tags} or the path of a file"
        )


def _wants_quick_gelu(model: str, weights: str | None) -> bool:
    """Whether the weights behind a tag were trained with QuickGELU; OpenCLIP only warns if the name says otherwise."""
    import open_clip

    known = open_clip.get_pretrained_cfg(model, weights or "") if not _is_folder(model) else {}
    return bool(known and known.get("quick_gelu"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenCLIP warns on the root logger about folders without weights, which is what `build_empty` gives it.

    Only this thread is silenced, since others build models at the same time.
    """
    thread = threading.get_ident()

    def is_wanted(record: logging.LogRecord) -> bool:
        return record.thread != thread or record.levelno > logging.WARNING

    logging.root.addFilter(is_wanted)
    try:
        yield
    finally:
        logging.root.removeFilter(is_wanted)
