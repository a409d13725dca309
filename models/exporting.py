"""A checkpoint as a folder that other programs load: OpenCLIP's layout, or that of transformers."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from data_catalog.store import locate
from data_catalog.store_files import make_folder
from models import clip
from models.checkpoints import CheckpointRef

Layout = Literal["open_clip", "hugging_face"]
CARD = "README.md"
WEIGHTS = "open_clip_model.safetensors"


def export(checkpoint: CheckpointRef, output: Path, layout: Layout, texts: Mapping[str, str]) -> list[str]:
    """Write `checkpoint` and `texts` (by file name) as the folder `output`, whole or not at all; returns its files.

    Raises ValueError for a folder that holds anything, and for architectures that `layout` has no place for.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists and is not empty: name a new folder, or empty this one first")
    make_folder(output.resolve().parent)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name[:32]}.", dir=output.resolve().parent))
    try:
        if layout == "open_clip":
            write_open_clip(checkpoint, scratch, at=output)
        else:
            write_hugging_face(checkpoint, scratch)
        for name, text in texts.items():
            (scratch / name).write_text(text)
        scratch.chmod(0o755)
        os.replace(scratch, output)  # takes the place of an empty folder
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())


def write_open_clip(
    checkpoint: CheckpointRef, folder: Path, at: Path | None = None, link: bool = False, weights: str = WEIGHTS
) -> None:
    """Write what `open_clip.create_model_and_transforms("local-dir:...")` loads; `at`: where it will lie later.

    `link`: the weights are the store's own file by another name, where the file system allows; else a copy.
    """
    clip.write_description(checkpoint.backbone, folder, at)
    place_weights(checkpoint.digest, folder / weights, link)


def place_weights(digest: str, target: Path, link: bool) -> None:
    """Put the weights at `target`, linked or copied; what was there is replaced."""
    source = locate(digest)
    target.unlink(missing_ok=True)
    if link:
        try:
            os.link(source, target)
            return
        except OSError:  # another file system, or one without links
            pass
    shutil.copyfile(source, target)


def write_hugging_face(checkpoint: CheckpointRef, folder: Path) -> None:
    """Write what CLIPModel, or SiglipModel, and CLIPProcessor of transformers load, once both are seen to agree.

    Raises ValueError for architectures and tokenizers that have no counterpart there.
    """
    from models.hugging_face_layout import to_hugging_face
    from models.hugging_face_processor import PROBES, check_equal_tokens, image_processor, processor

    described, encode = clip.read_description(checkpoint.backbone), clip.tokenizer(checkpoint.backbone)
    shape = clip.preprocessing(checkpoint.backbone)
    tokenizer = _tokenizer(checkpoint.backbone, described)
    check_equal_tokens(tokenizer, encode)
    model = to_hugging_face(clip.build(checkpoint), encode(list(PROBES)))
    interpolation = described["preprocess_cfg"].get("interpolation", "bicubic")
    images = image_processor(shape.size, shape.mean, shape.std, shape.resize_mode, interpolation)
    model.save_pretrained(folder)
    processor(tokenizer, images).save_pretrained(folder)


def summary(backbone: str) -> dict:
    """Architecture, tokenizer and preprocessing of a backbone, as a card and a registry tell them."""
    described = clip.read_description(backbone)
    model, text = described["model_cfg"], described["model_cfg"]["text_cfg"]
    return {
        "image_tower": _image_tower(model["vision_cfg"]),
        "text_tower": text.get("hf_model_name") or f"transformer of width {text.get('width')}",
        "dimensions": model["embed_dim"],
        "tokenizer": _tokenizer_name(text),
        "context_length": clip.context_length(backbone),
        "preprocessing": clip.preprocessing(backbone).model_dump(mode="json")
        | {"interpolation": described["preprocess_cfg"].get("interpolation", "bicubic")},
    }


def _image_tower(vision: Mapping[str, Any]) -> str:
    if named := vision.get("timm_model_name"):
        return named
    sizes = {key: vision[key] for key in ("image_size", "patch_size", "width", "layers") if key in vision}
    return f"ViT {json.dumps(sizes)}" if isinstance(vision.get("layers"), int) else f"ResNet {json.dumps(sizes)}"


def _tokenizer_name(text: Mapping[str, Any]) -> str:
    if named := text.get("hf_tokenizer_name"):
        return named if named != "." else "the Hugging Face tokenizer beside the weights"
    merges = text.get("tokenizer_kwargs", {}).get("bpe_path")
    return f"OpenCLIP SimpleTokenizer, merges {merges[:19]}" if merges else "OpenCLIP SimpleTokenizer"


def _tokenizer(backbone: str, described: Mapping[str, Any]) -> Any:
    from models.hugging_face_processor import borrowed_tokenizer, byte_pair_tokenizer

    length, text = clip.context_length(backbone), described["model_cfg"]["text_cfg"]
    if own := clip.byte_pairs(backbone):
        return byte_pair_tokenizer(*own, length)
    if files := described.get("hugging_face", {}).get("tokenizer"):
        return borrowed_tokenizer(files, text.get("tokenizer_kwargs", {}).get("clean", "whitespace"), length)
    raise ValueError(
        f"the tokenizer of this model ({_tokenizer_name(text)}, {text.get('tokenizer_kwargs')}) has no Hugging Face "
        "layout; export it with `--layout open_clip`"
    )
