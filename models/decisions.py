"""What a person decides about a living stream: a step is promoted or rejected, or what was live before is live again.

Each decision is made on the entries as they are when it is written, so of two at once the second sees the first. Made
twice, by a retried run or by two people, it is entered once.
"""

from collections.abc import Callable

from data_catalog import promotions, store
from data_catalog.promotions import LiveChanged, Promotion, weights_in_words
from models import living
from models.living import LivingStep
from models.versions import brought_by


def promote_step(
    stream: str, step: int, reason: str, replaces: int | None = None, request: str | None = None
) -> Promotion:
    """Make the candidate of `step` live; the live entry if it is live already.

    `replaces`: the entry seen to be live; needed where it is not the weights that the step started from and was
    judged against. `request`: equal for attempts at one deed. Raises LiveChanged if another entry is live, ValueError
    for a step there is none of, MissingArtifact for weights that are gone or damaged.
    """
    done = living.step_at(stream, step)
    store.locate(done.candidate.digest)

    def made(history: list[Promotion]) -> Promotion:
        live = _expected(stream, history, replaces)
        if live.checkpoint == done.candidate.digest and live.step == step:
            return live
        if replaces is None and live.checkpoint != done.started_from:
            raise LiveChanged(
                f"{stream}: step {step} was made from entry {done.follows} and judged against it, and by now entry "
                f"{live.number} ({_what(live)}) is live, whose lessons step {step} lacks: add `--replaces "
                f"{live.number}` to make it live all the same"
            )
        return _entry("promote", done, reason, request)

    return _once(stream, request, made)


def reject_step(
    stream: str, step: int, reason: str, replaces: int | None = None, request: str | None = None
) -> Promotion:
    """Settle that the candidate of a held `step` does not go live; the entry that says so already if there is one.

    Raises ValueError for a step that is or was live, LiveChanged if `replaces` is given and another entry is live.
    """
    done = living.step_at(stream, step)

    def made(history: list[Promotion]) -> Promotion:
        live = _expected(stream, history, replaces)
        if live.step == step:
            raise ValueError(
                f"{stream}: step {step} is live; take it back with `evergreen rollback {stream} --reason ...`"
            )
        known = [entry for entry in history if entry.step == step and entry.deed in ("promote", "reject")]
        if known and known[-1].deed == "promote":
            raise ValueError(f"{stream}: step {step} went live with entry {known[-1].number} and no longer is: "
                             "there is nothing left to reject")  # fmt: skip
        return known[-1] if known else _entry("reject", done, reason, request)

    return _once(stream, request, made)


def roll_back(
    stream: str, reason: str, to: int | None = None, replaces: int | None = None, request: str | None = None
) -> Promotion:
    """Make the weights of entry `to` live again, by default those that were live before; the live entry if they are.

    Raises ValueError beyond the start and for an entry that put nothing live, LiveChanged if `replaces` is given and
    another entry is live, MissingArtifact for weights that are gone or damaged.
    """
    living.live_now(stream)

    def made(history: list[Promotion]) -> Promotion:
        live = _expected(stream, history, replaces)
        target = _before(stream, history, live) if to is None else _put_live(stream, history, to)
        if target.checkpoint == live.checkpoint and target.step == live.step:
            return live
        store.locate(target.checkpoint)
        return target.model_copy(update={"deed": "rollback", "by": "person", "reason": _said(reason),
                                         "returns_to": target.number, "request": request})  # fmt: skip

    return _once(stream, request, made)


def _expected(stream: str, history: list[Promotion], replaces: int | None) -> Promotion:
    live = living.live_of(stream, history)
    if replaces not in (None, live.number):
        raise LiveChanged(
            f"{stream}: entry {replaces} is not live any more, entry {live.number} is ({_what(live)}): look at "
            "`evergreen status` and decide again"
        )
    return live


def _before(stream: str, history: list[Promotion], live: Promotion) -> Promotion:
    """What was live before the live weights first were: two rollbacks go back two entries."""
    now = brought_by(history, live)
    for entry in reversed(history[: now.number]):
        if entry.deed != "reject" and (found := brought_by(history, entry)).checkpoint != now.checkpoint:
            return found
    raise ValueError(
        f"{stream}: live are the weights it began with (entry {now.number}), and nothing was live before them; "
        "name another entry with `--to`"
    )


def _put_live(stream: str, history: list[Promotion], number: int) -> Promotion:
    known = [entry.number for entry in history if entry.deed != "reject"]
    if number not in known:
        raise ValueError(
            f"{stream}: entry {number} put nothing live; those that did: {', '.join(map(str, known))}. A rejected step "
            "goes live with `evergreen promote`"
        )
    return brought_by(history, history[number])


def _once(stream: str, request: str | None, made: Callable[[list[Promotion]], Promotion]) -> Promotion:
    """Enter what `made` gives, unless an earlier attempt at the same deed has entered it."""

    def unless_known(history: list[Promotion]) -> Promotion:
        known = (entry for entry in history if request is not None and entry.request == request)
        return next(known, None) or made(history)

    return promotions.enter(stream, unless_known)


def _entry(deed: str, done: LivingStep, reason: str, request: str | None) -> Promotion:
    return Promotion(
        number=0, deed=deed, checkpoint=done.candidate.digest, backbone=done.candidate.backbone, step=done.step,
        by="person", reason=_said(reason), verdict=done.verdict_digest, request=request, time="",
    )  # fmt: skip


def _said(reason: str) -> str:
    if not reason.strip():
        raise ValueError("a decision needs its reason, for whoever looks for it later: say it with `--reason`")
    return reason.strip()


def _what(entry: Promotion) -> str:
    """An entry in words."""
    weights = weights_in_words(entry.step)
    return f"{entry.deed}, {weights}"
