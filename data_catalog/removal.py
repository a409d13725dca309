"""Requests for removal: which samples they mean, what those helped to make, and the decision itself."""

from collections.abc import Sequence

from data_catalog import catalog, decisions, lineage
from data_catalog.catalog import query
from data_catalog.decisions import Decision
from data_catalog.refs import Spec


class Request(Spec):
    """The samples that a request names, one way at a time."""

    samples: tuple[str, ...] = ()
    dataset: str | None = None
    where: str | None = None  # a condition in SQL on the catalog's `samples`

    @property
    def rule(self) -> str:
        """How the samples were chosen, for the ledger; empty if each was named."""
        if self.dataset is not None:
            return f"--dataset {self.dataset}"
        return "" if self.where is None else f"--where {self.where}"


def matching(request: Request) -> list[str]:
    """The ids that a request means; raises ValueError for unknown samples and for a request that means none.

    Samples that left the catalog but were trained on are known too, by id and by dataset.
    """
    ways = [bool(request.samples), request.dataset is not None, request.where is not None]
    if sum(ways) != 1:
        raise ValueError(f"{sum(ways)} of --sample, --dataset and --where are given, expected exactly one of them")
    if request.samples:
        return _known(sorted(set(request.samples)))
    if request.dataset is not None:
        sql = "SELECT id FROM samples WHERE dataset = ? UNION SELECT sample FROM step_draws WHERE dataset = ?"
        found = query(f"{sql} ORDER BY 1", [request.dataset, request.dataset])
    else:
        found = query(f"SELECT id FROM samples WHERE ({request.where}\n) ORDER BY id")
    if not found:
        raise ValueError(
            f"`{request.rule}` matches no sample that the catalog knows; `evergreen status` lists datasets"
        )
    return [row["id"] for row in found]


def copies(samples: Sequence[str]) -> list[str]:
    """Other samples of the catalog with the very bytes of these."""
    rows = query(
        "WITH asked AS (SELECT unnest(?::VARCHAR[]) AS id) "
        "SELECT id FROM samples WHERE hash IN (SELECT hash FROM samples WHERE id IN (FROM asked)) "
        "AND id NOT IN (FROM asked) ORDER BY id",
        [list(samples)],
    )
    return [row["id"] for row in rows]


def forget(samples: Sequence[str], reason: str, rule: str = "") -> Decision:
    """Put a removal in the ledger, and the catalog's copy of it: later plans leave the samples out."""
    decision = decisions.forget(samples, reason, rule)
    catalog.record_decisions()
    return decision


def forgotten(request: Request) -> list[str]:
    """The forgotten samples that a request means; raises ValueError if there are none."""
    known = decisions.in_force("forget")
    if request.samples:
        return sorted(set(request.samples))  # those that are not forgotten are refused by the ledger, by name
    if request.dataset is not None:
        chosen = [name for name in known if name.startswith(f"{request.dataset}/")]
    else:
        chosen = [name for name in matching(request) if name in known]
    if not chosen:
        raise ValueError(f"`{request.rule}` matches no forgotten sample; `evergreen forget --list` shows them")
    return sorted(chosen)


def restore(samples: Sequence[str], reason: str, rule: str = "") -> Decision:
    """Take the removal of samples back, in the ledger and in the catalog's copy of it."""
    decision = decisions.withdraw("forget", samples, reason, rule)
    catalog.record_decisions()
    return decision


def affected(samples: Sequence[str]) -> dict:
    """What a removal means: the steps that drew the samples, the checkpoints that carry them, copies elsewhere."""
    return lineage.impact(samples) | {"copies": copies(samples)}


def _known(ids: list[str]) -> list[str]:
    rows = query(
        "SELECT id FROM (SELECT unnest(?::VARCHAR[]) AS id) WHERE id NOT IN (SELECT id FROM samples "
        "UNION ALL SELECT sample FROM step_draws UNION ALL SELECT id FROM quarantine) ORDER BY id",
        [ids],
    )
    unknown = [row["id"] for row in rows] if catalog.exists() else ids
    if unknown:
        raise ValueError(
            f"{len(unknown)} of {len(ids)} samples were never recorded, first {unknown[0]!r}; "
            'expected ids such as DIGITS/train/seven/00012.png: `evergreen catalog query "SELECT id FROM samples"`'
        )
    return ids
