"""Where a stream begins: weights that somebody pretrained, or a small model pretrained here first."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from data_catalog.places import located
from data_catalog.refs import Spec
from data_catalog.store import digest_of, digest_of_file
from models.updates import UpdateSpec


class Pretrained(Spec):
    """Weights of any OpenCLIP model."""

    kind: Literal["pretrained"] = "pretrained"
    model: str  # a name OpenCLIP knows, or a folder with open_clip_config.json
    weights: str | None = None  # for a name: a tag of OpenCLIP or the path of a weights file

    def identity(self) -> str:
        """What decides the weights, whatever path they lie under; raises ValueError for a folder with `weights`."""
        model = Path(located(self.model))
        if model.is_dir() and self.weights:
            raise ValueError(
                f"start: the folder {self.model} brings its own weights, so {self.weights!r} would not be "
                "used; leave `weights` out, or give a model name"
            )
        if model.is_dir():
            return folder_identity(model)
        file = Path(self.weights or "")
        return f"{self.model} {digest_of_file(file) if file.is_file() else self.weights}"


class Scratch(Spec):
    """Random weights of an architecture, trained on the pretraining pool before the stream begins."""

    kind: Literal["scratch"] = "scratch"
    model: str  # a name OpenCLIP knows, a folder with open_clip_config.json, or `<source>/<folder>`
    iterations: int = Field(ge=1)  # of the training
    batch_size: int = Field(ge=1)  # image-text pairs per iteration
    update: UpdateSpec

    def identity(self) -> str:
        """What decides the architecture, whatever path it lies under."""
        folder = Path(located(self.model))
        return folder_identity(folder) if folder.is_dir() else self.model


AnyStart = Annotated[Pretrained | Scratch, Field(discriminator="kind")]


def folder_identity(folder: Path) -> str:
    """A digest of the names and bytes of the files in `folder`; raises ValueError when there is none."""
    files = sorted(path for path in folder.glob("*") if path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no files; expected a folder with open_clip_config.json, or a model name")
    return digest_of("\n".join(f"{path.name} {digest_of_file(path)}" for path in files).encode())
