"""Whether what has arrived for a living stream makes a step now: plain functions that list, and open no file.

Nothing here decides what a step is made of. `living-stream` does that, under its lock, by content: starting it once too
often costs a look, and makes no second step of the same data.
"""

import json
import logging
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field

from data_catalog import store
from data_catalog.news import News, news_of
from data_catalog.refs import Spec
from data_catalog.sources import AnySource
from data_catalog.sources.one_dataset import OneDataset
from data_catalog.store_files import write_atomically
from flows.experiment import parse
from flows.living_config import LivingConfig, load_living
from models import living
from models.living import LivingStep
from tasks.locks import is_held

log = logging.getLogger(__name__)

PATIENCE = 10  # quiet times that the rest of a batch is waited for
NAMESPACE = uuid.UUID("8e6f1d5a-3a53-5f0e-9d0c-6a6b3a1c7f42")  # of the ids of what arrived; any that never changes


class Waiting(Spec):
    """What waits for a stream, and what is to be done about it."""

    stream: str
    verdict: Literal["start", "wait", "nothing new", "at work"]
    why: str
    unfinished: int | None = None  # the step that was begun, if one was
    now: bool = False  # whether the step is to be taken however few samples there are
    id: uuid.UUID  # of the stream, its next step and what is there: equal for equal data
    files: int = Field(ge=0)  # new ones
    settling: int = Field(ge=0)  # files that are not there yet
    news: tuple[News, ...]


def look(config: LivingConfig) -> Waiting:
    """What waits for a stream now; raises ValueError if a source cannot be listed.

    Remembers since when something waits, for `living.arrivals.longest_wait_hours`.
    """
    news = tuple(news_of(source) for source in config.arriving if _is_streamed(config, source))
    files, settling = sum(each.files for each in news), sum(each.settling for each in news)
    opened, few = living.begun(config.name), _too_few(config.name)
    if is_held(lock_of(config.name)):
        verdict, why, now = "at work", "a run is at work; what arrived since waits for the next look", False
    elif opened is not None:
        verdict, why, now = "start", f"step {opened.step} was begun and not finished", False
    else:
        verdict, why, now = _judged(config, news, few)
    unfinished = opened.step if opened else None
    return Waiting(stream=config.name, verdict=verdict, why=why, unfinished=unfinished, now=now,
                   id=_id(config.name, news, now), files=files, settling=settling, news=news)  # fmt: skip


def lock_of(stream: str) -> Path:
    """What a run of the stream holds while it works."""
    return living.file_of(stream, "lock")


def waiting_path(stream: str) -> Path:
    """What a run of the stream found too few for a step, and since when."""
    return living.file_of(stream, "waiting.json")


def waited(since: str | None, log: logging.Logger | logging.LoggerAdapter) -> tuple[datetime, float]:
    """Since when something waits, and how many hours; from now on if nothing did, or if the clock went back."""
    now = datetime.now(UTC)
    began = datetime.fromisoformat(since) if since else now
    if began > now:
        log.warning("the clock went back to before %s: the wait is counted from now", began)
        began = now
    return began, (now - began).total_seconds() / 3600


def configured(stream_or_config: str) -> tuple[LivingConfig, str | None]:
    """A living stream by the path of its file, or by its name as its last step was configured; and that path.

    Raises ValueError if it is neither.
    """
    if Path(stream_or_config).is_file():
        return load_living(stream_or_config), str(Path(stream_or_config).resolve())
    last = living.last_step(stream_or_config)
    if last is None:
        raise ValueError(
            f"{stream_or_config!r} is neither the file of a living stream nor the name of one that has made a step here"
        )
    return configured_at(last, stream_or_config), None


def configured_at(step: LivingStep, stream: str) -> LivingConfig:
    """What a step was made with; raises ValueError where this version of Evergreen does not take it."""
    found = parse(yaml.safe_load(store.read_bytes(step.config)), f"what step {step.step} of {stream} was made with")
    assert isinstance(found, LivingConfig)
    return found


def _judged(config: LivingConfig, news: Sequence[News], few: dict) -> tuple[str, str, bool]:
    """Start, wait or nothing; why; and whether however few are enough."""
    changed, spec = [each for each in news if each.is_changed], config.living.arrivals
    rest = "; ".join(f"{each.source}: {each.settling} not there yet, {each.why}" for each in news if each.settling)
    if not changed and not few:
        _since_path(config.name).unlink(missing_ok=True)
        return "nothing new", rest or "nothing has arrived since the last step", False
    hours = _hours_waited(config.name, few)
    files, known = sum(each.files for each in changed), sum(few.get("samples", {}).values())
    said = ", ".join(filter(None, (f"{files} new files" if files else "", f"{known} new samples" if known else "")))
    if spec.longest_wait_hours is not None and hours >= spec.longest_wait_hours:
        return "start", f"{said or 'a change'}, after {hours:.3g} hours: the longest wait is over", True
    is_bounded = all(each.bounds_samples and each.files for each in changed)
    if is_bounded and files + known < spec.least_samples:
        return "wait", f"{said} wait for {spec.least_samples}", False
    quiet = _quiet_seconds(config, news)
    if changed and quiet and hours * 3600 < PATIENCE * quiet:
        return "wait", f"{said}, and more is coming ({rest}): it is waited for, {PATIENCE * quiet:g} s at most", False
    return "start", said or "what is there has changed", False


def _is_streamed(config: LivingConfig, source: AnySource) -> bool:
    """Whether samples of a source may arrive; what the model was pretrained on or is only scored on does not."""
    held_out = {*config.pretraining, *config.evaluation.retention}
    return not isinstance(source, OneDataset) or source.dataset not in held_out


def _quiet_seconds(config: LivingConfig, news: Sequence[News]) -> float:
    """The longest quiet time of the sources where something is not there yet."""
    restless = {each.source for each in news if each.settling}
    rules = (s.settle for s in config.arriving if isinstance(s, OneDataset) and s.name in restless)
    return max((rule.quiet_seconds for rule in rules), default=0)


def _id(stream: str, news: Sequence[News], now: bool) -> uuid.UUID:
    there = [len(living.finished(stream)), now, [each.digest for each in news]]
    return uuid.uuid5(NAMESPACE, json.dumps([stream, *there]))


def _too_few(stream: str) -> dict:
    """What the last run looked at and found too few for a step, by its own note; nothing if it took all."""
    path = waiting_path(stream)
    return json.loads(path.read_text()) if path.is_file() else {}


def _hours_waited(stream: str, few: dict) -> float:
    """Since the oldest of what waits was first seen; a clock that went back starts the wait anew."""
    path = _since_path(stream)
    told = [few["since"]] if few else []
    told += [json.loads(path.read_text())["since"]] if path.is_file() else []
    since, hours = waited(min(told, default=None), log)
    write_atomically(path, json.dumps({"since": since.isoformat()}).encode())
    return hours


def _since_path(stream: str) -> Path:
    return living.file_of(stream, "watched.json")
