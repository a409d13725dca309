"""Tokenizer and image preprocessing in the layout of Hugging Face, beside the weights of `hugging_face_layout`.

Both read texts alike up to what only OpenCLIP does before it cuts a text into tokens: mend broken Unicode and undo
HTML entities. Images that have to be resized come out as transformers resizes them.
"""

import string
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from models.hugging_face import write_tokenizer

PROBES = (
    "a photo of a cat",
    "A PHOTO, of 3 Dogs & 12 cats!",
    "it's the café's   naïve façade",
    "snow_covered (old) house; 42%",
    "東京 - 🙂 x" + " word" * 100,
)  # on which both tokenizers must agree: case, digits, punctuation, accents, other scripts, and too long
_RESAMPLING = {"bicubic": 3, "bilinear": 2, "nearest": 0}  # as PIL numbers them
_START, _END = "<|startoftext|>", "<|endoftext|>"

Encode = Callable[[Sequence[str]], Tensor]


def byte_pair_tokenizer(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, ...]], length: int) -> Any:
    """The CLIPTokenizer of transformers with a vocabulary of OpenCLIP's own kind, for `length` tokens."""
    from transformers import CLIPTokenizer

    renamed = {"<start_of_text>": _START, "<end_of_text>": _END}
    made = CLIPTokenizer(
        vocab={renamed.get(token, token): number for token, number in vocabulary.items()},
        merges=[merge for merge in merges if len(merge) == 2],  # an empty last line of the file is none
        model_max_length=length,
    )
    made.model_input_names = ["input_ids", "attention_mask"]
    return made


def borrowed_tokenizer(files: Mapping[str, str], clean: str, length: int) -> Any:
    """The tokenizer in stored `files`, made to clean texts as OpenCLIP would; raises ValueError where it cannot be."""
    from tokenizers import Regex, normalizers
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(files, Path(folder))
        made = AutoTokenizer.from_pretrained(folder, model_max_length=length)
    if clean == "canonicalize" and not made.is_fast:
        return made  # SigLIP's own does so itself; `check_equal_tokens` says if another does not
    made.model_input_names = ["input_ids"]  # OpenCLIP does not mask the padding
    if clean == "canonicalize":
        own = made.backend_tokenizer.normalizer
        made.backend_tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace("_", " "), normalizers.Replace(Regex(f"[{_escaped()}]"), ""), normalizers.Lowercase(),
             normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), *([own] if own else [])]
        )  # fmt: skip
    return made


def check_equal_tokens(made: Any, encode: Encode) -> None:
    """Raise ValueError unless the tokenizer `made` gives the tokens of `encode`, apart from padding, on the probes."""
    for text in PROBES:
        ours = encode([text])[0].tolist()
        options = {"padding": "max_length", "truncation": True, "max_length": len(ours)}
        theirs = made([text], **options)["input_ids"][0]
        used = len(made([text], truncation=True, max_length=len(ours))["input_ids"][0])
        if ours[:used] != theirs[:used]:
            raise ValueError(
                f"the tokenizer of this model has no Hugging Face layout: {text[:30]!r} becomes {theirs[:8]}, expected "
                f"{ours[:8]}; export it with `--layout open_clip`"
            )


def image_processor(size: int, mean: Sequence[float], std: Sequence[float], mode: str, interpolation: str) -> Any:
    """The image processor of CLIP; `mode`: shortest (then cropped to the centre) or squash."""
    from transformers import CLIPImageProcessor

    square = {"height": size, "width": size}
    return CLIPImageProcessor(
        size=square if mode == "squash" else {"shortest_edge": size}, do_center_crop=mode != "squash", crop_size=square,
        image_mean=list(mean), image_std=list(std), resample=_RESAMPLING[interpolation],
    )  # fmt: skip


def processor(tokenizer: Any, images: Any) -> Any:
    """Both as one CLIPProcessor."""
    from transformers import CLIPProcessor

    return CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def _escaped() -> str:
    return "".join(f"\\{mark}" for mark in string.punctuation)
