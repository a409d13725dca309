"""A merge of files that a user names: into a file or a model's folder, with a manifest that says how it came to be.

The result appears when everything is done and checked, or not at all. What is made meanwhile lies beside it.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from data_catalog.store import digest_of_file
from data_catalog.store_files import move_into_place, write_atomically
from models.merging.engine import merge_files
from models.merging.geometry import Geometry, measure
from models.merging.opened import Opened, read_json
from models.merging.plan import Plan
from models.merging.technique import Technique

FOLDER_MANIFEST = "merge.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".onnx", ".index.json")
_NAMES = ("open_clip_model.safetensors", "model.safetensors")
Progress = Callable[[str, float], None]  # what is being done, share of it


class Job(NamedTuple):
    """All that a merge is made of."""

    technique: Technique
    base: Opened
    experts: Sequence[Opened]
    statistics: Sequence[Opened]
    output: Path  # a *.safetensors file, or a folder like that of the base
    seed: int
    newest: int
    device: str = "cpu"

    @property
    def is_folder(self) -> bool:
        """Whether a folder is written."""
        return self.output.suffix != ".safetensors"

    @property
    def manifest(self) -> Path:
        """Where the manifest is going to be."""
        return self.output / FOLDER_MANIFEST if self.is_folder else Path(f"{self.output}.json")

    @property
    def inputs(self) -> tuple[Opened, ...]:
        """Base, experts and statistics."""
        return (self.base, *self.experts, *self.statistics)


def check_output(job: Job, force: bool, needed_megabytes: float) -> None:
    """Raises ValueError for an output that is an input, is there already, or for which there is no room."""
    output = job.output.resolve()
    for given in job.inputs:
        places = [path.resolve() for path in given.files]
        if job.is_folder:
            places = [place for path in places for place in path.parents] + places
        if output in places or any(os.path.exists(output) and os.path.samefile(output, place) for place in places):
            raise ValueError(f"the output {job.output} is an input, {given.given}; name another one")
    if job.is_folder and job.base.folder is None:
        raise ValueError(
            f"the output {job.output} does not end in .safetensors, and the base is no folder whose configuration it "
            "could have; name a *.safetensors file"
        )
    if job.is_folder:
        _check_folders(job)
    _check_free(job, force)
    parent = next(place for place in output.parents if place.exists())
    free = shutil.disk_usage(parent).free / 1e6
    if free < needed_megabytes:
        raise ValueError(f"{parent} has {free:,.0f} MB free, the merge needs {needed_megabytes:,.0f} MB there")


def _check_folders(job: Job) -> None:
    """The output must not become a part of what it is a copy of, and all that is copied must be readable."""
    if job.output.resolve().is_relative_to(job.base.folder.resolve()):
        raise ValueError(
            f"the output {job.output} is inside the base's folder {job.base.folder}, of which it would have a copy; "
            "name a folder elsewhere"
        )
    for path in _described_by(job.base.folder):
        if path.suffix == ".json":
            read_json(path)


def _check_free(job: Job, force: bool) -> None:
    if job.is_folder and job.output.is_dir() and not any(job.output.iterdir()):
        return
    there = [path for path in (job.output, job.manifest) if path.exists()]
    if there and not force:
        raise ValueError(f"{there[0]} is there already; name another output, or give --force to replace it")
    if job.is_folder and there and not job.manifest.exists():
        raise ValueError(f"{job.output} was not made by a merge (no {FOLDER_MANIFEST} in it), so it is not replaced")
    if not job.is_folder and job.output.is_dir():
        raise ValueError(f"{job.output} is a folder; name a file")


def carry_out(job: Job, planned: Plan, measured: bool, progress: Progress | None = None) -> dict[str, Any]:
    """Merge, and write result and manifest; returns the manifest. Raises ValueError, and then leaves nothing."""
    started, clock = datetime.now(UTC), time.monotonic()
    say = progress or (lambda what, share: None)
    with _scratch(job.output) as scratch:
        base, experts, known = _files(job, scratch, say)
        result = scratch / "result.safetensors"
        names = {str(path): given.given for path, given in zip((base, *experts, *known), job.inputs, strict=True)}
        with _named(names | {str(result): f"the output {job.output}"}):
            merge_files(
                job.technique, base, experts, result, seed=job.seed, newest=job.newest, statistics=known,
                progress=lambda share: say("merging", share), device=job.device,
            )  # fmt: skip
            geometry = measure(base, [*experts, result], lambda share: say("measuring", share)) if measured else None
        say("taking digests", 0.0)
        manifest = {
            **_described(job, result),
            "warnings": list(planned.warnings),
            "geometry": None if geometry is None else _summary(geometry),
            "versions": {name: version(name) for name in ("evergreen", "torch")},
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 1),
        }
        (_place_folder if job.is_folder else _place_file)(job, result, manifest, scratch)
    return manifest


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """A folder beside `output`, gone afterwards."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise ValueError(f"cannot write beside {output}: {error.strerror}; name another output") from error
    with folder as name:
        yield Path(name)


@contextmanager
def _named(names: Mapping[str, str]) -> Iterator[None]:
    """Lets errors call files what the user does, for some are in a scratch folder."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for path, name in names.items():
            text = text.replace(path, name)
        raise ValueError(text) from error


def _files(job: Job, scratch: Path, say: Progress) -> tuple[Path, list[Path], list[Path]]:
    """Base, experts and statistics as safetensors files."""
    files = []
    for number, given in enumerate(job.inputs):
        if given.write is not None:
            say(f"preparing {given.given}", number / len(job.inputs))
        files.append(given.as_file(scratch / f"input-{number}.safetensors"))
    count = len(job.experts)
    return files[0], files[1 : 1 + count], files[1 + count :]


def _described(job: Job, result: Path) -> dict[str, Any]:
    paths = [result, *dict.fromkeys(path for given in job.inputs for path in given.files)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        digests = dict(zip(paths, pool.map(digest_of_file, paths), strict=True))

    def named(given: Opened) -> dict[str, Any]:
        files = {str(path): digests[path] for path in given.files}
        return {"name": given.given, "files": files} | ({"note": given.note} if given.note else {})

    return {
        "output": str(job.output),
        "digest": digests[result],
        "technique": job.technique.model_dump(mode="json"),
        "base": named(job.base),
        "experts": [named(expert) for expert in job.experts],
        "statistics": [named(given) for given in job.statistics],
        "seed": job.seed,
        "newest": job.newest,
    }


def _summary(geometry: Geometry) -> dict[str, Any]:
    """Of the experts' task vectors, and of the merged one, which was measured last."""
    *experts, merged = geometry.whole.norms
    return {
        "expert_norms": experts,
        "merged_norm": merged,
        "expert_cosines": [row[:-1] for row in geometry.whole.cosines[:-1]],
        "merged_cosines": geometry.whole.cosines[-1][:-1],
    }


def _place_file(job: Job, result: Path, manifest: dict[str, Any], scratch: Path) -> None:
    """First what says how it came to be, with its digest, then the weights."""
    write_atomically(job.manifest, _text(manifest))
    move_into_place(result, job.output)


def _place_folder(job: Job, result: Path, manifest: dict[str, Any], scratch: Path) -> None:
    """The base's folder with other weights; one that was there is moved aside before, and removed afterwards."""
    made = scratch / "folder"
    made.mkdir(mode=0o755)
    _copy_description(job.base.folder, made, job.output.resolve())
    move_into_place(result, made / _weights_name(job.base))
    (made / FOLDER_MANIFEST).write_bytes(_text(manifest))
    if job.output.exists():
        os.replace(job.output, scratch / "before")
    os.replace(made, job.output)


def _weights_name(base: Opened) -> str:
    """What loaders look for in a folder of the base's kind."""
    name = base.files[0].name if len(base.files) == 1 else "model.safetensors"
    return _NAMES[0] if name.startswith("open_clip") else _NAMES[1]


def _described_by(folder: Path) -> Iterator[Path]:
    """The files beside the weights, of folders inside too: configuration, tokenizer."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == FOLDER_MANIFEST or path.name.endswith(_WEIGHTS):
            continue
        if path.is_dir():
            yield from _described_by(path)
        else:
            yield path


def _copy_description(source: Path, target: Path, final: Path) -> None:
    """Configuration and tokenizer; paths in a configuration that lead into the old folder lead into the new one."""
    for path in _described_by(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        document = read_json(path) if path.suffix == ".json" else None
        moved = _moved(document, f"{source.resolve()}/", f"{final}/")
        if moved == document:
            shutil.copyfile(path, copy)
        else:
            copy.write_text(json.dumps(moved, indent=2))


def _moved(value: Any, before: str, after: str) -> Any:
    if isinstance(value, dict):
        return {key: _moved(each, before, after) for key, each in value.items()}
    if isinstance(value, list):
        return [_moved(each, before, after) for each in value]
    return after + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value


def _text(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=2) + "\n").encode()
