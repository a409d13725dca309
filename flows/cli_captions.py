"""Commands on the captions of a dataset of the catalog."""

from typing import Annotated

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()
captions_app = typer.Typer(help="Captions in the catalog: counts, quality, examples.", no_args_is_help=True)
app.add_typer(captions_app, name="captions")

Dataset = Annotated[str, typer.Argument(help="A dataset of the catalog, as `evergreen status` lists them.")]


@captions_app.command()
def stats(dataset: Dataset, json_output: Json = False) -> None:
    """Count the captions of a dataset by kind, with their length, leaks, fallbacks, cost and scores.

    Example: evergreen captions stats DIGITS --json
    """
    from data_catalog.caption_overview import overview, scores
    from flows.tables import show_rows

    kinds, scored = overview(dataset), scores(dataset)
    if json_output:
        print_json({"kinds": kinds, "scores": scored})
        return
    show_rows(f"captions of {dataset}", [_compact(row) for row in kinds])
    if scored:
        show_rows("CLIP scores", scored)


@captions_app.command()
def show(
    dataset: Dataset,
    kind: Annotated[str | None, typer.Option(help="One kind alone, e.g. fusion.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    suspicious: Annotated[bool, typer.Option("--suspicious", help="Only leaks and fallbacks.")] = False,
    json_output: Json = False,
) -> None:
    """Show some captions of a dataset with where they come from, always the same ones.

    Example: evergreen captions show DIGITS --kind synthetic_merged --suspicious
    """
    from data_catalog.caption_overview import examples
    from flows.tables import show_rows

    rows = examples(dataset, kind, limit, suspicious)
    if json_output:
        print_json(rows)
    elif rows:
        short = ("sample", "kind", "text", "leak", "fallback")
        show_rows(f"captions of {dataset}", [{name: row[name] for name in short} for row in rows])
    else:
        typer.echo("none")


def _compact(row: dict) -> dict:
    """The row for a terminal; model and prompt are in the JSON document."""
    words = f"{row['mean_words'] or 0:.1f}, {row['p99_words'] or 0:.0f}, {row['most_words'] or 0}"
    counts = {name: row[name] for name in ("texts", "images", "leaks", "fallbacks")}
    usage = "\n".join(f"{name.replace('_', ' ')} {value:,}" for name, value in row["usage"].items())
    return {"kind": row["kind"], "by": row["captioner"], **counts, "words: mean, p99, most": words, "took": usage}
