"""What a home holds, without starting any server."""

from data_catalog import catalog, places, promotions, store
from data_catalog.disk import free_bytes
from models.evaluation.record import find_record, known_experiments
from models.evaluation.report import best_recipe


def status_of_home() -> dict:
    """Experiments with their best recipe, datasets of the catalog, disk, updates that were interrupted."""
    root = places.store_root()
    return {
        "experiments": [_experiment(name) for name in known_experiments()],
        "datasets": catalog.summary(),
        "home": str(places.home()),
        "artifacts": sum(1 for _ in store.stored_digests()),
        "store_megabytes": round(sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6, 1),
        "free_gigabytes": round(free_bytes(root) / 1e9, 1),
        "unfinished_updates": len({path.parent for path in (root / "unfinished").glob("*/*.pt")}),
    }


def known_streams(wanted: str | None = None) -> list[str]:
    """The living streams of the store, or the one that is wanted; raises ValueError if that is none of them."""
    names = promotions.known_streams()
    if wanted is not None and wanted not in names:
        raise ValueError(f"no living stream {wanted!r} has run in this store, there are: {', '.join(names) or 'none'}")
    return names if wanted is None else [wanted]


def only_experiment() -> str:
    """The name of the one finished experiment; raises ValueError when there are none or several."""
    names = known_experiments()
    if len(names) != 1:
        raise ValueError(
            f"{len(names)} experiments have been finished in {places.home()}: {names}; "
            + ("name one" if names else "run one first, e.g. `evergreen demo`")
        )
    return names[0]


def _experiment(name: str) -> dict:
    record = find_record(name)
    best = best_recipe(record)
    return {
        "name": name,
        "steps": len(record.stream),
        "recipes": len(record.recipes),
        "best_recipe": best.name,
        **best.steps[-1].summary.model_dump(exclude={"step"}),
    }
