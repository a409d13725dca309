"""What housekeeping leaves of a living stream: how many of the newest, for how many days, or for ever."""

from pydantic import Field

from data_catalog.refs import Spec


class Period(Spec):
    """How long things of one kind stay; where neither is given, for ever."""

    newest: int | None = Field(None, ge=1, description="so many of the newest stay, however old; null: see `days`")
    days: float | None = Field(None, ge=0, description="what is younger stays, however many; null: see `newest`")

    def keeps(self, rank: int, age_seconds: float) -> bool:
        """Whether the thing stays that has `rank` newer ones before it and is so old."""
        if self.newest is None and self.days is None:
            return True
        is_new = self.newest is not None and rank < self.newest
        return is_new or (self.days is not None and age_seconds <= self.days * 86400)

    def spoken(self) -> str:
        """The rule in words."""
        rules = [f"the newest {self.newest}"] if self.newest is not None else []
        rules += [f"{self.days:g} days"] if self.days is not None else []
        return " or ".join(rules) or "for ever"


class KeepSpec(Spec):
    """How long a living stream keeps what is not needed to go on; what is live, held or in work always stays.

    All of it but weights can be made again: what is gone is a cache miss later. Ledgers, records of steps with their
    scores, outcomes and curves, and the manifests of weights are never deleted.
    """

    champions: Period = Field(Period(), description="weights that were live before, to go back to")
    experts: Period = Field(Period(newest=10), description="weights of steps that were never live, rejected ones too")
    snapshots: Period = Field(Period(newest=1), description="weights inside steps, where `evaluation.inside` asks")
    plans: Period = Field(Period(newest=3), description="plans of the whole stream and evaluation sets, by step")
    step_plans: Period = Field(Period(), description="what each step drew; without them `catalog rebuild` forgets it")
    reports: Period = Field(Period(newest=3), description="versions of the stream's report that a newer one replaced")
    cache_days: float = Field(
        30, ge=0, description="days that result records, text vectors, tokens and decoded images stay without use"
    )
    state_days: float = Field(14, ge=0, description="days that states of unfinished updates wait to be gone on with")
