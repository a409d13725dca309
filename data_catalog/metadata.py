"""The benchmark's metadata files: one JSON object per dataset and split, from image key to class and captions."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from data_catalog import registry
from data_catalog.json_files import read_json

CAPTIONS = ("default_caption", "primer_caption", "synthetic_caption", "synthetic_merged_caption")
FIELDS = ("classname", "target", *CAPTIONS)


def read_entries(path: Path) -> dict[str, dict]:
    """The entries of a metadata file by image key; raises ValueError if it is no object of objects."""
    entries = read_json(path)
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError(f"{path} is not a metadata file: expected one JSON object of objects, image key to {FIELDS}")
    return entries


def texts_of(value: object) -> list[str] | None:
    """A caption field as a list, None if it says nothing; a list that only repeats one string counts as that string.

    Raises ValueError for any other kind of value.
    """
    items = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"is {value!r:.60}, expected null, a string or a list of strings")
    texts = [item for item in items if item.strip()]
    return (texts[:1] if len(set(texts)) == 1 else texts) or None


def fill(template: str, classname: str, transform: str = "none") -> str:
    """A class prompt: the template around the class name, whose underscores may stand for spaces."""
    return template.replace("{}", classname.replace("_", " ") if transform == "underscores_to_spaces" else classname)


def check_metadata(path: str | Path) -> dict:
    """What a metadata file holds and what is wrong with it, as counts and sentences.

    `template_mismatches` counts primer captions that differ from the registry's template filled with the class name.
    """
    path = Path(path)
    entries = read_entries(path)
    dataset = _dataset_of(path)
    found = [problem for entry in entries.items() for problem in entry_problems(*entry, dataset)]
    return {
        "file": str(path),
        "entries": len(entries),
        "with_training_text": sum(map(_has_training_text, entries.values())),
        "template_mismatches": sum(_differs_from_template(entry, dataset) for entry in entries.values())
        if dataset
        else 0,
        "problems": [*_file_problems(path, entries, dataset), *_counted(found), *_class_problems(entries, dataset)],
    }


def entry_problems(key: str, entry: dict, dataset: registry.DatasetEntry | None) -> Iterator[tuple[str, str]]:
    """(key, fault) for everything about one entry that makes it unusable or suspicious."""
    if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
        yield key, "the key leaves the folder of the dataset"
    for field in FIELDS:
        if field not in entry:
            yield key, f"{field} is missing"
    for field in CAPTIONS:
        try:
            texts_of(entry.get(field))
        except ValueError as error:
            yield key, f"{field} {error}"
    yield from ((key, fault) for fault in _class_faults(entry, dataset))


def _class_faults(entry: dict, dataset: registry.DatasetEntry | None) -> Iterator[str]:
    classname, target = entry.get("classname"), entry.get("target")
    is_index = isinstance(target, int) and not isinstance(target, bool)
    if classname is not None and not (isinstance(classname, str) and classname.strip()):
        yield f"classname is {classname!r:.60}, expected null or a name"
    if "target" in entry and (not is_index or target < 0):
        yield f"target is {target!r:.60}, expected a class index from 0"
    if dataset and dataset.kind == "classification":
        if classname is None and "classname" in entry:
            yield "classname is null in a classification dataset"
        if is_index and target >= dataset.classes:
            yield f"target is beyond the {dataset.classes} classes of {dataset.info_prefix}"


def _class_problems(entries: dict[str, dict], dataset: registry.DatasetEntry | None) -> list[str]:
    """Targets with several class names and the reverse; not of retrieval sets, whose targets may be image indices."""
    if dataset is None or dataset.kind == "retrieval":
        return []
    pairs = sorted({(str(entry.get("target")), str(entry.get("classname"))) for entry in entries.values()})
    targets, names = Counter(target for target, _ in pairs), Counter(name for _, name in pairs)
    return [
        *(
            f"target {t} has {n} class names: {[b for a, b in pairs if a == t][:3]}"
            for t, n in targets.items()
            if n > 1
        ),
        *(f"class {c!r} has {n} targets: {[a for a, b in pairs if b == c][:3]}" for c, n in names.items() if n > 1),
    ]


def _file_problems(path: Path, entries: dict, dataset: registry.DatasetEntry | None) -> list[str]:
    unknown = f"{path.name} belongs to no dataset of the registry: expected <NAME>_<split>[_224].json[.gz]"
    return [*([] if entries else ["the file has no entries"]), *([] if dataset else [unknown])]


def _counted(found: list[tuple[str, str]]) -> list[str]:
    first: dict[str, str] = {}
    for key, fault in found:
        first.setdefault(fault, key)
    counts = Counter(fault for _, fault in found)
    return [f"{count} of the entries: {fault} (first: {first[fault]!r})" for fault, count in counts.items()]


def _dataset_of(path: Path) -> registry.DatasetEntry | None:
    """The registry's dataset behind a name such as DSPRITES_train_224.json.gz."""
    stem = path.name.split(".json")[0].removesuffix("_224")
    by_stem = {f"{d.info_prefix}_{token}": d for d in registry.benchmark() for token in d.split_tokens.values()}
    return by_stem.get(stem)


def _has_training_text(entry: dict) -> bool:
    values = [entry.get("default_caption"), entry.get("synthetic_merged_caption")]
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return any(isinstance(text, str) and text.strip() for text in texts)


def _differs_from_template(entry: dict, dataset: registry.DatasetEntry) -> bool:
    primer, classname = entry.get("primer_caption"), entry.get("classname")
    if primer is None:
        return False
    if dataset.prompt_template is None or not isinstance(classname, str):
        return True
    prompt = fill(dataset.prompt_template, classname, dataset.class_name_transform)
    return any(text != prompt for text in (primer if isinstance(primer, list) else [primer]))
