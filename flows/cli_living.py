"""The commands of a living stream: take a step, and decide about steps."""

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from flows import environment
from flows.cli_common import Config, Json, Seed, counts, print_json

app = typer.Typer()

Stream = Annotated[str, typer.Argument(help="Name of a living stream, `name` in its YAML file.")]
Step = Annotated[int, typer.Option(min=0, help="Of the stream, counted from 0.")]
Reason = Annotated[str, typer.Option(help="Kept in the ledger for whoever looks for it later.")]
Replaces = Annotated[
    int | None,
    typer.Option(min=0, help="The ledger entry that is live now; if another one is by then, nothing is done."),
]


@app.command()
def live(
    config: Config,
    now: Annotated[bool, typer.Option("--now", help="Take a step however few samples have arrived.")] = False,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Choose the data anew of a step that was begun and not finished.")
    ] = False,
    json_output: Json = False,
    seed: Seed = None,
) -> None:
    """Make a step of a living stream of what has arrived, judge it, and let the gate move the live model.

    Example: evergreen live flows/configs/living.yaml
    """
    environment.open_home()
    from flows.console import watching
    from flows.living_config import load_living
    from flows.server import api

    stream = load_living(config, seed)
    with api(meanwhile=_import_flow), watching(quiet=json_output) as stages:
        from flows.living import living_stream

        outcome = living_stream(stream, now, afresh)
    if json_output:
        print_json(outcome.model_dump() | {"stages": counts(stages)})
        return
    typer.echo("\n".join(_told(outcome)))


@app.command()
def promote(
    stream: Stream, step: Step, reason: Reason, replaces: Replaces = None, json_output: Json = False
) -> None:  # fmt: skip
    """Make the candidate of a step live: one that the gate held, or after all one that it rejected.

    Example: evergreen promote living --step 7 --reason 'better on shoes, which matter most'
    """
    from models.decisions import promote_step

    _decide(stream, lambda: promote_step(stream, step, reason, replaces), json_output)


@app.command()
def reject(
    stream: Stream, step: Step, reason: Reason, replaces: Replaces = None, json_output: Json = False
) -> None:  # fmt: skip
    """Settle that a held step does not go live.

    Example: evergreen reject living --step 7 --reason 'mistakes boots for shoes'
    """
    from models.decisions import reject_step

    _decide(stream, lambda: reject_step(stream, step, reason, replaces), json_output)


@app.command()
def rollback(
    stream: Stream,
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(min=0, help="Entry whose weights go live again; those live before by default.")
    ] = None,
    replaces: Replaces = None,
    json_output: Json = False,
) -> None:
    """Make earlier weights live again; the next step starts from them.

    Example: evergreen rollback living --reason 'complaints about shoes'
    """
    from models.decisions import roll_back

    _decide(stream, lambda: roll_back(stream, reason, to, replaces), json_output)


def _decide(stream: str, deed: Callable[[], Any], json_output: bool) -> None:
    """Enter the decision, say so, and only then bring the views up to it, which takes seconds."""
    environment.open_home()
    from data_catalog import promotions

    before = len(promotions.entries(stream))
    entry = deed()
    live = promotions.live(stream)
    if json_output:
        print_json({"stream": stream, "entry": entry.model_dump(), "live": live.model_dump()})
    else:
        news = "" if entry.number >= before else " (entered before: nothing is changed)"
        weights = promotions.weights_in_words(live.step)
        typer.echo(f"{stream}: entry {entry.number}, {entry.deed}{news}; live: {weights}, {live.checkpoint[:19]}")
    sys.stdout.flush()
    for problem in _views(stream):
        typer.echo(f"evergreen: {problem}", err=True)


def _views(stream: str) -> list[str]:
    """Make the registry and the pages agree with the ledger; what could not be done, in words."""
    from data_catalog import promotions
    from flows.handing_over import server
    from flows.telling import tell_of
    from tasks.registry import agree, is_up_to_date
    from tasks.tracking import MLflowFailed

    tell_of(stream)
    problems = []
    try:
        if not is_up_to_date(stream, promotions.entries(stream)):
            agree(stream)
    except MLflowFailed as failure:
        problems.append(f"the registry is behind, `evergreen registry {stream}` brings it up: {failure}")
    if url := server():
        from prefect.settings import PREFECT_API_URL, temporary_settings

        from flows.asking import close_questions_if_possible

        with temporary_settings({PREFECT_API_URL: url}):
            problems += filter(None, [close_questions_if_possible(stream)])
    return problems


def _told(outcome: Any) -> list[str]:
    from data_catalog.promotions import weights_in_words

    did = {
        "step": f"step {outcome.step}: the gate says {outcome.verdict}{' (held)' * outcome.held}",
        "waiting": f"{outcome.waiting} new samples wait for more; `--now` takes a step all the same",
    }.get(outcome.did, outcome.did)
    hint = f"decide with `evergreen promote {outcome.stream} --step {outcome.step} --reason ...`, or `reject`"
    return [
        f"{outcome.stream}: {did}",
        *(f"  {reason}" for reason in outcome.reasons),
        *([hint] if outcome.held else []),
        f"live: {weights_in_words(outcome.live_step)}, {outcome.live[:19]}",
    ]


def _import_flow() -> None:
    import flows.living  # noqa: F401
