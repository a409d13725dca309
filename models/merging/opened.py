"""What a user names as weights, opened: safetensors files, folders of OpenCLIP, Hugging Face and peft, older formats.

Only headers are read here. What is not one whole safetensors file becomes one in a scratch folder when it is needed.
"""

import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from data_catalog.store import locate
from models.adapters import travel
from models.adapters.by_name import Folded
from models.tensor_files import NAMES, Entry, TensorFile
from models.weights import write_safetensors

_PICKLED = (".bin", ".pt", ".pth")
_UNREADABLE = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, EOFError, OSError)  # by unpickling
_INDEX = ".safetensors.index.json"
_IN_FOLDERS = (
    *("open_clip_model.safetensors", "model.safetensors", f"model{_INDEX}"),
    *("open_clip_pytorch_model.bin", "pytorch_model.bin"),
)
_BARE = re.compile(r"\.lora_[AB](\.|$)|lora_magnitude_vector|\.vera_lambda_")


class Opened(NamedTuple):
    """Weights whose layout is known."""

    given: str  # as the user named them
    files: tuple[Path, ...]  # what they are read from
    layout: Mapping[str, Entry]
    folder: Path | None = None  # they were named by; its other files describe the model
    note: str = ""  # what has to be done to them first
    write: Callable[[Path], None] | None = None  # does that; none: the file is read as it is

    @property
    def path(self) -> str:
        """What messages call it."""
        return self.given

    @property
    def size(self) -> int:
        """Bytes of its tensors."""
        return sum(entry.stop - entry.start for entry in self.layout.values())

    def as_file(self, scratch: Path) -> Path:
        """A safetensors file with all of it: its own, or `scratch`, which is written."""
        if self.write is None:
            return self.files[0]
        self.write(scratch)
        return scratch


def open_weights(given: str, base: Opened | None = None) -> Opened:
    """Find out what `given` is: a file, a folder, a digest; adapters are of `base`.

    Raises ValueError saying what was found and what can be given.
    """
    if given.startswith("sha256:"):
        return _file(given, locate(given))
    path = Path(given)
    if not path.exists():
        raise ValueError(f"{given} does not exist; give a *.safetensors file, a model's folder or sha256:<digest>")
    if not path.is_dir():
        return _file(given, path)
    if (path / travel.CONFIG).exists():
        return _adapter(given, path, base)
    found = next((path / name for name in _IN_FOLDERS if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"{given} holds none of {', '.join(_IN_FOLDERS)}; give the file with the weights")
    return _file(given, found)._replace(folder=path)


def open_adapter_base(opened: Opened) -> None:
    """Raises ValueError unless adapters can be folded onto `opened`, which must be a safetensors file."""
    if opened.write is not None:
        raise ValueError(
            f"adapters are folded onto one safetensors file, but {opened.given} is {opened.note}; convert it first"
        )


def _file(given: str, path: Path) -> Opened:
    if path.name.endswith(_INDEX):
        return _sharded(given, path)
    if path.suffix in _PICKLED:
        return _pickled(given, path)
    with TensorFile(path) as file:
        layout = file.layout
    if bare := next((name for name in layout if _BARE.search(name)), None):
        raise ValueError(
            f"{given} holds tensors of an adapter ({bare!r}), no weights: give the folder that has "
            f"{travel.CONFIG} beside {travel.WEIGHTS}"
        )
    return Opened(given, (path,), layout)


def _adapter(given: str, folder: Path, base: Opened | None) -> Opened:
    if base is None:
        raise ValueError(f"{given} is an adapter, and a base must be whole weights; give it as --expert")
    open_adapter_base(base)
    adapter = _read_adapter(given, folder, base)

    def write(target: Path) -> None:
        with closing(_Stored(base.files[0])) as stored:
            write_safetensors(Folded(stored, base.layout, adapter), target)

    ranks = {len(parts.get("lora_A", parts.get("vera_lambda_d"))) for parts in adapter.places.values()}
    note = f"{adapter.kind} of rank {', '.join(map(str, sorted(ranks)))}, folded onto the base first"
    return Opened(given, (folder / travel.WEIGHTS, folder / travel.CONFIG), base.layout, None, note, write)


def _read_adapter(given: str, folder: Path, base: Opened) -> travel.Adapter:
    """The adapter of a folder, which fits `base`; raises ValueError naming the folder or the file in it."""
    config = read_json(folder / travel.CONFIG)
    if not isinstance(config, dict):
        raise ValueError(f"{folder / travel.CONFIG} holds no mapping; expected what peft's `save_pretrained` writes")
    if config.get("peft_type") == "LORA" and not isinstance(config.get("lora_alpha"), int | float):
        raise ValueError(
            f"{folder / travel.CONFIG} has `lora_alpha` {config.get('lora_alpha')!r}, expected a number; give the "
            "configuration that the adapter was trained with"
        )
    if (folder / travel.WEIGHTS).is_file():
        TensorFile(folder / travel.WEIGHTS).close()  # says what is damaged
    try:
        adapter = travel.read(folder)
        Folded({}, base.layout, adapter)  # refuses what does not fit, before anything is done
    except ValueError as error:
        raise ValueError(f"{given}: {error}") from error
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{folder / travel.WEIGHTS} lacks a part of an adapter ({error}); expected what peft's `save_pretrained` "
            "writes"
        ) from error
    return adapter


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises ValueError naming the file."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} does not read as JSON ({error}); repair it, or take it out of the folder") from error


def _sharded(given: str, index: Path) -> Opened:
    found = read_json(index)
    places = found.get("weight_map") if isinstance(found, dict) else None
    places = list(places.values()) if isinstance(places, dict) else []
    odd = [place for place in places if not isinstance(place, str) or not place.endswith(".safetensors")]
    if odd or not places:
        found = f"a tensor is in {odd[0]!r}" if odd else "no tensor is in a file"
        raise ValueError(f"{index} is no index of shards: by its `weight_map` {found}; expected *.safetensors files")
    names = sorted(set(places))
    shards = {index.parent / name: _file(given, index.parent / name).layout for name in names}
    home = {name: shard for shard, layout in shards.items() for name in layout}
    layout = {name: entry for part in shards.values() for name, entry in sorted(part.items())}

    def write(target: Path) -> None:
        with _Shards(home, layout) as stored:
            write_safetensors(stored, target)

    return Opened(
        given, (*shards, index), dict(sorted(layout.items())), None, f"joined from {len(shards)} files", write
    )


def _pickled(given: str, path: Path) -> Opened:
    tensors = _load(path)
    layout = {
        name: Entry(tensor.dtype, tuple(tensor.shape), 0, tensor.numel() * tensor.element_size())
        for name, tensor in sorted(tensors.items())
    }
    note = f"converted from {path.suffix} first, which may need its size in memory"
    return Opened(given, (path,), layout, None, note, lambda target: write_safetensors(_load(path), target))


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch checkpoint; nothing else that is pickled in it is executed."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or ["nothing in it"])[0]
        raise ValueError(
            f"{path} does not load as weights alone ({type(error).__name__}: {reason}); give a whole file, or convert "
            "it to safetensors where it came from"
        ) from error
    for key in ("state_dict", "model"):
        found = found[key] if isinstance(found, Mapping) and isinstance(found.get(key), Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise ValueError(f"{path} holds no plain mapping of names to tensors; convert its weights to safetensors")
    if (odd := next((name for name in found if not isinstance(name, str)), None)) is not None:
        raise ValueError(f"{path} names a tensor {odd!r}, expected a string; convert its weights to safetensors")
    if odd := next((name for name, tensor in found.items() if not _can_be_stored(tensor)), None):
        kind = f"{found[odd].layout} of {found[odd].dtype}".replace("torch.", "")
        raise ValueError(
            f"{path} holds {odd!r}, {kind}; expected strided of one of "
            f"{', '.join(str(dtype).removeprefix('torch.') for dtype in NAMES)}; convert it where it came from"
        )
    prefix = "module." if found and all(name.startswith("module.") for name in found) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _can_be_stored(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.dtype in NAMES


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


class _Shards(Mapping[str, Tensor]):
    """Tensors that lie in several files, each read when it is asked for."""

    def __init__(self, home: Mapping[str, Path], layout: Mapping[str, Entry]):
        self._home, self._layout = home, layout
        self._files = {path: TensorFile(path) for path in set(home.values())}

    def __getitem__(self, name: str) -> Tensor:
        return self._files[self._home[name]].read(name).view(self._layout[name].shape)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._home))

    def __len__(self) -> int:
        return len(self._home)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Stored(_Shards):
    """Tensors of one file, each read when it is asked for."""

    def __init__(self, path: Path):
        with TensorFile(path) as file:
            layout = file.layout
        super().__init__(dict.fromkeys(layout, path), layout)
