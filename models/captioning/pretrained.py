"""Models of the Hugging Face layout, from a local folder or the hub: what names one, and one copy of each per process.

`transformers` is imported inside functions: it takes seconds, and a run that re-uses every text needs no model.
"""

import json
import os
import threading
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from data_catalog import store
from data_catalog.refs import Spec

NO_PART_OF_A_MODEL = {".md", ".lock", ".gitattributes"}
_LOADING = threading.Lock()  # one model per process, however many threads ask for it


class Pretrained(Spec):
    """A model by local folder, or by its name on the hub with the commit; nothing of the hub is ever a default.

    Float32 gives the same texts on every device; on a GPU `bfloat16` takes half the memory and time, and a text may
    then depend on the batch it was made in, so precision and batch size are part of what names it.
    """

    model: str = Field(min_length=1)  # a folder, or <owner>/<name> on the hub
    revision: str | None = Field(None, pattern=r"^[0-9a-f]{40}$")  # of the hub: the commit; branches move
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # precision of weights and arithmetic
    device: str = "auto"  # changes no text as far as arithmetic allows, so it names nothing
    batch_size: int = Field(16, ge=1)  # images or questions at once

    def model_identity(self) -> str:
        """The model's architecture with the digest of its folder, or its name with the commit.

        Raises ValueError if it is no folder here and no commit is given.
        """
        folder = Path(self.model).expanduser()
        if folder.is_dir():
            return f"{_architecture(folder)}@{folder_digest(folder)[7:23]}"
        if self.revision is None:
            raise ValueError(
                f"{self.model!r} is no folder on this machine, and as a name on the hub it lacks the commit: give "
                "`revision` (40 hex digits, see the history of the model's files) or the right path"
            )
        return f"{self.model}@{self.revision}"


class Loaded(NamedTuple):
    """A model with its processor or tokenizer; hold `turn` while it computes."""

    model: nn.Module
    processor: Any
    turn: threading.Lock


def load(spec: Pretrained, model_class: str, processor_class: str) -> Loaded:
    """The model that `spec` names, through two `Auto...` classes of transformers; loaded once per process."""
    device = spec.device if spec.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    with _LOADING:
        return _load(
            os.path.expanduser(spec.model),
            spec.revision,
            spec.model_identity(),
            spec.dtype,
            device,
            model_class,
            processor_class,
        )


def folder_digest(folder: Path) -> str:
    """A digest of the files of a model by their relative names and contents, wherever the folder lies."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder)))
    content = [[str(path.relative_to(folder)), store.digest_of_file(path.resolve())] for path in files]
    return store.digest_of(json.dumps(content).encode())


def identity(kind: str, facts: dict) -> str:
    """The id of a captioner: its kind and a digest of everything that decides its texts."""
    return f"{kind}:{sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}"


@lru_cache(maxsize=2)  # a captioner and the writer that fuses what it says
def _load(
    model: str, revision: str | None, _identity: str, dtype: str, device: str, model_class: str, processor_class: str
) -> Loaded:
    import transformers

    transformers.utils.logging.disable_progress_bar()  # ours show how far a stage is
    where = {"revision": revision} if revision else {}
    try:
        processor = getattr(transformers, processor_class).from_pretrained(model, **where)
        module = getattr(transformers, model_class).from_pretrained(model, dtype=getattr(torch, dtype), **where)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{model!r} cannot be loaded by {model_class} and {processor_class}: {error}; expected a folder as "
            "`save_pretrained` writes it, or a model on the hub"
        ) from error
    return Loaded(module.to(device).eval(), processor, threading.Lock())


def _architecture(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text())["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} is no model: its config.json is missing or names no `model_type`; expected a folder as "
            "`save_pretrained` writes it"
        ) from error


def _counts(relative: Path) -> bool:
    return not any(part.startswith(".") for part in relative.parts) and relative.suffix not in NO_PART_OF_A_MODEL
