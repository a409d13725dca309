"""Commands on what comes in: sources, datasets, their metadata."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows import environment
from flows.cli_common import BAD_INPUT, Json, counts, print_json

if TYPE_CHECKING:
    from data_catalog.sources.base import Presence
    from flows.ingest import IngestConfig

app = typer.Typer()
metadata_app = typer.Typer(help="Caption and metadata files of the benchmark.", no_args_is_help=True)
app.add_typer(metadata_app, name="metadata")
quarantine_app = typer.Typer(help="What ingest refused, and why.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")

What = Annotated[str, typer.Argument(help="A YAML file with `sources` or a whole experiment, or a kind of source "
                                          "such as fomo-in-flux.")]  # fmt: skip
Data = Annotated[str | None, typer.Option(help="Folder or URL of the images, for a kind of source.")]
MetadataFolder = Annotated[str | None, typer.Option(help="Folder of the metadata files, by default that of the data.")]
Datasets = Annotated[str | None, typer.Option(help="Only these, separated by commas; by default all that are there.")]
Check = Annotated[Literal["decode", "index"] | None, typer.Option(help="`index`: do not read the images yet.")]
Setting = Annotated[list[str] | None, typer.Option("--set", help="Any other field of the source, as key=value.")]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the decision.")]


@app.command()
def ingest(
    what: What,
    data: Data = None,
    metadata: MetadataFolder = None,
    datasets: Datasets = None,
    check: Check = None,
    setting: Setting = None,
    retry: Annotated[bool, typer.Option("--retry", help="Look again at everything that was refused.")] = False,
    json_output: Json = False,
) -> None:
    """Fill the catalog from sources; only what is new or changed is read, and on unchanged data nothing is written.

    Examples: evergreen ingest flows/configs/demo.yaml,
    evergreen ingest fomo-in-flux --data /data/fomo --metadata /data/fomo/metadata --check index
    """
    environment.open_home()
    from flows.console import watching
    from flows.ingest import load
    from flows.server import api

    options = {"data": data, "metadata": metadata, "check": check, "datasets": datasets and datasets.split(",")}
    given = {name: value for name, value in options.items() if value is not None} | _settings(setting or [])
    if _is_file(what):
        if given:
            raise ValueError(f"{what} says all about its sources; put {', '.join(sorted(given))} there")
        config = load(what)
    else:
        config = _one_source(what, given)
    presence = [each for source in config.sources for each in source.presence()]
    if datasets and any(each.state in ("incomplete", "absent") for each in presence):
        config.sources[0].listings()  # says what is missing, before anything is started
    with api(), watching(quiet=json_output) as stages:
        from flows.ingest import ingest as flow

        news = flow(config, retry=retry).is_news
    _show_ingested(presence, news, stages, json_output)


@app.command()
def datasets(
    role: Annotated[Literal["adaptation", "retention", "extra"] | None, typer.Option()] = None,
    kind: Annotated[Literal["classification", "retrieval"] | None, typer.Option()] = None,
    json_output: Json = False,
) -> None:
    """List the datasets of the benchmark, and what the catalog of this home holds of each.

    Example: evergreen datasets --role retention --json
    """
    from data_catalog import catalog, registry
    from flows.tables import show_rows

    held = {row["dataset"]: row for row in catalog.summary()}
    rows = [
        entry.model_dump(mode="json") | {"catalog": held.get(entry.info_prefix)}
        for entry in registry.benchmark()
        if role in (None, entry.role) and kind in (None, entry.kind)
    ]
    if json_output:
        print_json(rows)
        return
    show_rows(f"{len(rows)} datasets of the benchmark", [_short(row) for row in rows])
    if others := sorted(set(held) - {entry.info_prefix for entry in registry.benchmark()}):
        typer.echo(f"the catalog holds besides: {', '.join(others)}")


@quarantine_app.command("list")
def list_quarantine(
    dataset: Annotated[str | None, typer.Option(help="Only of this dataset.")] = None,
    code: Annotated[str | None, typer.Option(help="Only with this code.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table; JSON has all.")] = 50,
    json_output: Json = False,
) -> None:
    """List what was refused, why, and whether it may be released.

    Example: evergreen quarantine list --code absurd_size
    """
    from data_catalog.quarantine import CODES
    from flows.tables import show_rows

    rows = [row | {"releasable": CODES[row["code"]].releasable} for row in _quarantined(dataset, code)]
    if json_output:
        print_json(rows)
        return
    if not rows:
        typer.echo("nothing is refused")
        return
    shown = [{name: row[name] for name in ("id", "code", "reason", "releasable")} for row in rows[:limit]]
    show_rows(f"quarantine, {len(rows)} refused, the first {len(shown)}", shown)
    for name in sorted({row["code"] for row in rows}):
        typer.echo(f"  {name}: {CODES[name].meaning}")


@quarantine_app.command("release")
def release(
    reason: Reason,
    sample: Annotated[list[str] | None, typer.Option(help="Id of a refused sample; may be repeated.")] = None,
    code: Annotated[str | None, typer.Option(help="All that were refused with this code.")] = None,
    dataset: Annotated[str | None, typer.Option(help="With --code: only of this dataset.")] = None,
    json_output: Json = False,
) -> None:
    """Accept refused samples all the same; the next ingest takes them in.

    Example: evergreen quarantine release --code absurd_size --reason "panoramas are what we train on"
    """
    from data_catalog import decisions
    from data_catalog.quarantine import check_releasable

    if bool(sample) == bool(code):
        raise ValueError("say which samples to release: either --sample ID (repeatable) or --code CODE")
    refused = _quarantined(dataset, code)
    rows = refused if code else [row for row in refused if row["id"] in set(sample or ())]
    if unknown := sorted(set(sample or ()) - {row["id"] for row in rows}):
        raise ValueError(f"not in quarantine: {', '.join(unknown[:5])}; `evergreen quarantine list` says what is")
    if not rows:
        raise ValueError(f"nothing is refused as {code}; `evergreen quarantine list` says what is")
    check_releasable(rows)
    rule = f"--code {code}" + (f" --dataset {dataset}" if dataset else "") if code else ""
    decision = decisions.release([row["id"] for row in rows], reason, rule)
    if json_output:
        print_json(decision.model_dump(mode="json"))
    else:
        typer.echo(f"released {len(decision.samples)} samples; `evergreen ingest ...` takes them in")


@metadata_app.command("check")
def check_metadata(files: Annotated[list[Path], typer.Argument(exists=True)]) -> None:
    """Check caption/metadata files (JSON, also gzipped); prints one JSON line each, exits with 2 if one is unreadable.

    Example: evergreen metadata check MNIST_train.json FSCOCO_test.json.gz
    """
    from data_catalog.metadata import check_metadata as check

    unreadable = False
    for file in files:
        try:
            result = check(file)
        except ValueError as error:
            unreadable = True
            nothing = dict.fromkeys(("entries", "with_training_text", "template_mismatches"), 0)
            result = {"file": str(file), **nothing, "problems": [str(error)]}
        typer.echo(json.dumps(result))
    if unreadable:
        raise typer.Exit(BAD_INPUT)


def _is_file(what: str) -> bool:
    return Path(what).exists() or what.endswith((".yaml", ".yml")) or "/" in what


def _one_source(kind: str, options: dict[str, Any]) -> "IngestConfig":
    from pydantic import ValidationError

    from flows.experiment import problems
    from flows.ingest import IngestConfig

    try:
        return IngestConfig.model_validate({"sources": [{"kind": kind.replace("-", "_"), **options}]})
    except ValidationError as error:
        raise ValueError(f"{kind} with {options} is neither a file nor a valid source:\n{problems(error)}") from error


def _settings(pairs: list[str]) -> dict[str, Any]:
    """key=value pairs, values as YAML has them."""
    import yaml

    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise ValueError(f"--set {wrong[0]!r} is no key=value, e.g. --set resized=true")
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def _show_ingested(presence: list["Presence"], news: bool, stages: Any, json_output: bool) -> None:
    from data_catalog import catalog
    from flows.tables import show_rows

    rows = catalog.summary()
    refused = catalog.query("SELECT dataset, code, count(*) AS refused FROM quarantine GROUP BY ALL ORDER BY ALL")
    if json_output:
        print_json({
            "datasets": rows, "presence": [each._asdict() for each in presence], "refused": refused,
            "quarantine": catalog.quarantined(), "catalog_written": news, "stages": counts(stages),
        })  # fmt: skip
        return
    show_rows("catalog", [{**row, "samples": _splits(row)} | {"digest": row["digest"][:13]} for row in rows])
    _show_missing(presence)
    if refused:
        show_rows("refused; `evergreen quarantine list` says why", refused)
    typer.echo(f"{stages.summary()}; the catalog was {'written' if news else 'left untouched'}")


def _show_missing(presence: list["Presence"]) -> None:
    for each in presence:
        if each.missing and each.state != "absent":
            outcome = "ingested without" if each.state == "partial" else "left out, missing"
            typer.echo(f"{each.dataset} {outcome}: {', '.join(each.missing)}")
    absent = [each.dataset for each in presence if each.state == "absent"]
    if absent:
        typer.echo(f"{len(absent)} of {len(presence)} datasets are not there: {', '.join(absent)}")


def _quarantined(dataset: str | None, code: str | None) -> list[dict]:
    from data_catalog import catalog
    from data_catalog.quarantine import CODES

    if code is not None and code not in CODES:
        raise ValueError(f"{code!r} is no code of the quarantine; there are {', '.join(CODES)}")
    return [row for row in catalog.quarantined(dataset) if code in (None, row["code"])]


def _short(row: dict) -> dict:
    """What fits on a line."""
    held = row["catalog"]
    return {
        "dataset": row["info_prefix"],
        **{name: row[name] for name in ("role", "kind", "classes")},
        **{split: row["samples"].get(split, "") for split in ("train", "test")},
        "zero shot": "" if row["zero_shot"] is None else f"{row['zero_shot']:.3f}",
        "here": "" if held is None else _splits(held),
    }


def _splits(row: dict) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in row["samples"].items())
