"""The status of a living stream as people read it: in the terminal and as a page of a run."""

from data_catalog.arrivals import in_words
from data_catalog.durations import ago
from data_catalog.promotions import weights_in_words
from flows.stream_status import Live, Scheduled, SeenStep, StreamStatus


def markdown(status: StreamStatus) -> str:
    """The page, which is read at any time after: moments stand as they are."""
    parts = [f"# {status.stream}", _bullets(headlines(status))]
    if status.held:
        parts += ["## Held for a person", *map(_held, status.held)]
    if status.newest:
        head = "| step | verdict | what became of it | finished | arrived |\n|---:|---|---|---|---|"
        rows = [
            f"| {each.step} | {each.verdict} | {_cell(each.decided)} | {_moment(each.finished)} | "
            f"{in_words(each.arrived)} |"
            for each in status.newest
        ]
        parts += ["## Last steps", "\n".join([head, *rows])]
        parts += ["## Last verdicts", _bullets(verdicts(status))]
    if status.alerts:
        parts += ["## Last alerts", _bullets(alert_lines(status))]
    return "\n\n".join(parts) + "\n"


def lines(status: StreamStatus) -> list[str]:
    """The same for a terminal."""
    since = f", live weights of {ago(status.live.since)}" if status.live else ""
    parts = [f"{status.stream}{since}", *headlines(status)]
    parts += [f"step {held.step} is held, decide with: {command}" for held in status.held for command in held.commands]
    parts += [f"verdict on {line}" for line in verdicts(status)]
    parts += [f"alert, {line}" for line in alert_lines(status)]
    return [parts[0], *(f"  {part}" for part in parts[1:])]


def headlines(status: StreamStatus) -> list[str]:
    """What counts first: live, at work, waiting, next."""
    said = ["live: nothing yet" if status.live is None else _live(status.live), _work(status)]
    said += [_last_arrival(status.newest[0])] if status.newest else []
    if (waiting := status.waiting) is not None:
        said.append(f"waiting: {waiting.verdict}: {waiting.why}")
    said += [_scheduled(each) for each in status.scheduled]
    return said + [f"not known, {each}" for each in status.unknown]


def verdicts(status: StreamStatus) -> list[str]:
    """The newest verdicts with their reasons."""
    return [f"step {step.step}: {step.verdict}, {step.decided}: {'; '.join(step.reasons)}" for step in status.newest]


def alert_lines(status: StreamStatus) -> list[str]:
    """The newest alerts."""
    return [f"{_moment(alert.time)}: {alert.event}: {alert.message}" for alert in status.alerts]


def _live(live: Live) -> str:
    what = weights_in_words(live.step)
    scores = live.scores and ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in live.scores.model_dump(exclude={"step"}).items()
        if value is not None
    )
    return f"live: {what} (entry {live.entry}, {live.deed} by {live.by}), {live.checkpoint[:19]}, since " + ", ".join(
        filter(None, (_moment(live.since), scores))
    )


def _work(status: StreamStatus) -> str:
    done = f"finished steps: {status.steps}"
    if status.at_work:
        return f"{done}; a run is at work" + (f" on step {status.open_step}" if status.open_step is not None else "")
    if status.open_step is not None:
        return f"{done}; step {status.open_step} was begun and no run is at work: the next run finishes it"
    return f"{done}; no run is at work"


def _last_arrival(step: SeenStep) -> str:
    return f"last arrival: {in_words(step.arrived)}, step {step.step}, finished {_moment(step.finished)}"


def _moment(told: str) -> str:
    return f"{told[:19].replace('T', ' ')} UTC"


def _scheduled(each: Scheduled) -> str:
    if each.next is not None:
        return f"next: {each.deployment} at {each.next}" + (" (schedule paused since)" if each.paused else "")
    return f"next: {each.deployment} runs when asked" + (": its schedule is paused" if each.paused else "")


def _held(step: SeenStep) -> str:
    reasons = _bullets(step.reasons)
    return f"**Step {step.step}**\n\n{reasons}\n\n" + "\n".join(["```", *step.commands, "```"])


def _bullets(said) -> str:
    return "\n".join(f"- {line}" for line in said)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
