"""What a home holds, without starting any server."""

from data_catalog import catalog, places, store
from models.evaluation.record import find_record, known_experiments
from models.evaluation.report import best_recipe


def status() -> dict:
    """Experiments with their best recipe, datasets of the catalog, size of the store, updates that were interrupted."""
    root = places.store_root()
    return {
        "experiments": [_experiment(name) for name in known_experiments()],
        "datasets": catalog.summary() if places.catalog_path().is_file() else [],
        "home": str(places.home()),
        "artifacts": sum(1 for _ in store.stored_digests()),
        "store_megabytes": round(sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 1e6, 1),
        "unfinished_updates": len({path.parent for path in (root / "unfinished").glob("*/*.pt")}),
    }


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
