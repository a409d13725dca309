"""A living stream with three steps that the gate held, without the seconds that real ones take."""

from types import SimpleNamespace

from data_catalog import promotions, store
from data_catalog.arrivals import Arrival
from data_catalog.promotions import Promotion
from models import living
from models.gate import Check, Verdict

BACKBONE = "sha256:" + "b" * 64
CHECK = Check(name="zero-shot retention", live=0.5, candidate=0.48, difference=-0.02, low=-0.05, high=0.01, least=-0.01,
              outcome="hold")  # fmt: skip


def weights(name: str) -> str:
    """Bytes in the store that stand for weights."""
    return store.write_bytes(name.encode())


def step_of(number: int, started_from: str):
    """A step that the gate held."""
    digest = weights(f"candidate {number}")
    verdict = Verdict(outcome="hold", reasons=("may be worse",), checks=(CHECK,), candidate=digest, live=started_from)
    return SimpleNamespace(
        step=number, candidate=SimpleNamespace(digest=digest, backbone=BACKBONE), started_from=started_from, follows=0,
        verdict=verdict, verdict_digest=weights(f"verdict {number}"), arrival=Arrival.model_construct(samples={"A": 9}),
    )  # fmt: skip


def begin_pets(monkeypatch) -> list:
    """The stream `pets`: the weights it began with are live, and three held steps each started from them."""
    start = weights("start")
    promotions.add("pets", Promotion(number=0, deed="start", checkpoint=start, backbone=BACKBONE, by="stream",
                                     reason="begins", time=""), follows=None)  # fmt: skip
    steps = [step_of(number, start) for number in range(3)]
    monkeypatch.setattr(living, "step_at", lambda stream, step: steps[step])
    monkeypatch.setattr(living, "last_step", lambda stream: steps[-1])
    return steps
