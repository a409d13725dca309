"""What made a checkpoint, and what a sample helped to make: questions to the catalog's lineage views.

A checkpoint carries a step directly if it is the expert that the step ended in, and by inheritance if it was made from
such weights later: trained on from them, or merged with them. The views `lineage_*` answer the same in SQL.
"""

from collections.abc import Iterable, Sequence

from data_catalog import decisions, store
from data_catalog.catalog import query

COUNTS = "count(DISTINCT sample) AS samples, sum(draws)::BIGINT AS draws"
TEXTS = 20  # captions listed by default, the most frequent ones


def about(name: str, texts: int = TEXTS) -> dict:
    """What is known of a checkpoint, a step, a dataset or a sample; `kind` says which of them `name` is.

    Raises ValueError if nothing is recorded of it. `texts`: how many captions to list, the most frequent first.
    """
    if name.startswith("sha256:"):
        return of_checkpoint(_whole_digest(name), texts)
    if found := _steps("stream || '/' || recipe || '/' || step = ?", [name]):
        return {"kind": "step", "name": name, **found[0], **drawn(found[0]["step_plan"], texts), **kin(found[0])}
    if query("SELECT 1 FROM datasets WHERE name = ? UNION SELECT 1 FROM step_draws WHERE dataset = ?", [name, name]):
        return of_dataset(name, texts)
    return of_sample(name, texts)


def of_checkpoint(digest: str, texts: int = TEXTS) -> dict:
    """How a checkpoint was made, what its own step drew, and the earlier steps whose data it carries too.

    `total` counts the draws of all of them, each step plan once.
    """
    origins, own = store.origins(digest), _steps("checkpoint = ?", [digest])
    plans = sorted({step["step_plan"] for step in own})
    carried = query(
        "SELECT DISTINCT stream, recipe, step, ancestor AS checkpoint FROM checkpoint_ancestors d "
        "JOIN steps s ON s.checkpoint = ancestor WHERE d.checkpoint = ? AND distance > 0 ORDER BY ALL",
        [digest],
    )
    descendants = query(
        "SELECT checkpoint FROM checkpoint_ancestors WHERE ancestor = ? AND distance > 0 ORDER BY distance, checkpoint",
        [digest],
    )
    if not (origins or own or carried):
        raise ValueError(f"nothing is recorded of checkpoint {digest!r}: give a digest as in the report's lineage")
    return {
        "kind": "checkpoint",
        "name": digest,
        "origins": origins,
        "steps": own,
        **(drawn(plans[0], texts) if plans else {}),
        "inherited": carried,
        "total": query(
            f"SELECT dataset, pool, {COUNTS} FROM step_draws WHERE step_plan IN (SELECT step_plan FROM "
            "lineage_checkpoints WHERE checkpoint = ?) GROUP BY ALL ORDER BY ALL",
            [digest],
        ),
        "descendants": [row["checkpoint"] for row in descendants],
    }


def of_sample(sample: str, texts: int = TEXTS) -> dict:
    """Where a sample is, which steps drew it from which pool and how often, and which checkpoints carry it."""
    steps = query(
        "SELECT stream, recipe, step, pool, sum(draws)::BIGINT AS draws, checkpoint FROM lineage_samples "
        "WHERE sample = ? GROUP BY ALL ORDER BY ALL",
        [sample],
    )
    known = query("SELECT * EXCLUDE (hash, phash), hex(hash) AS hash FROM samples WHERE id = ?", [sample])
    refused = query("SELECT code, reason, shard FROM quarantine WHERE id = ?", [sample])
    if not (steps or known or refused):
        raise ValueError(
            f"nothing is recorded of {sample!r}: give a digest as in the report's lineage, <stream>/<recipe>/<step>, "
            "the name of a dataset, or the id of a sample, <DATASET>/<split>/<key>"
        )
    return {
        "kind": "sample",
        "name": sample,
        "known": known[0] if known else None,
        "quarantine": refused,
        "decisions": [_said(made) for made in decisions.decisions() if sample in made.samples],
        "steps": steps,
        "captions": _captions("sample = ?", [sample], texts),
        "checkpoints": carriers("SELECT DISTINCT step_plan FROM step_draws WHERE sample = ?", [sample]),
    }


def of_dataset(dataset: str, texts: int = TEXTS) -> dict:
    """Which steps drew samples of a dataset, how many and how often, and which checkpoints carry them."""
    return {
        "kind": "dataset",
        "name": dataset,
        "known": query("SELECT * FROM datasets WHERE name = ?", [dataset]),
        "samples": query(
            "SELECT split, concept, count(*) AS samples FROM samples WHERE dataset = ? GROUP BY ALL ORDER BY ALL",
            [dataset],
        ),
        "steps": query(
            f"SELECT stream, recipe, step, pool, {COUNTS}, checkpoint FROM lineage_samples "
            "WHERE dataset = ? GROUP BY ALL ORDER BY ALL",
            [dataset],
        ),
        "captions": _captions("dataset = ?", [dataset], texts),
        "checkpoints": carriers("SELECT DISTINCT step_plan FROM step_draws WHERE dataset = ?", [dataset]),
    }


def drawn(step_plan: str, texts: int = TEXTS) -> dict:
    """What one step plan holds: samples and draws per pool, per dataset and concept, and the captions used."""
    whole, by = "FROM step_draws WHERE step_plan = ?", "GROUP BY ALL ORDER BY ALL"
    return {
        "pools": query(f"SELECT pool, {COUNTS}, count(DISTINCT text) AS texts {whole} {by}", [step_plan]),
        "samples": query(f"SELECT dataset, concept, pool, {COUNTS} {whole} {by}", [step_plan]),
        "caption_kinds": query(f"SELECT caption_kind, captioner, {COUNTS} {whole} {by}", [step_plan]),
        "captions": _captions("step_plan = ?", [step_plan], texts),
    }


def kin(step: dict) -> dict:
    """The checkpoints that carry a step, and the earlier steps that its expert carries beside its own."""
    made = of_checkpoint(step["checkpoint"], texts=0)
    return {
        "origins": made["origins"],
        "inherited": made["inherited"],
        "checkpoints": carriers("SELECT ?", [step["step_plan"]]),
    }


def carriers(step_plans: str, parameters: Sequence[object] = ()) -> list[dict]:
    """The checkpoints that carry steps trained on one of these step plans (a SELECT of them), and how.

    One row per checkpoint and step: checkpoint, how (direct or inherited), stream, recipe, step.
    """
    return query(
        "SELECT DISTINCT checkpoint, how, stream, recipe, step FROM lineage_checkpoints "
        f"WHERE step_plan IN ({step_plans}) ORDER BY stream, recipe, step, how, checkpoint",
        [*parameters],
    )


def impact(samples: Iterable[str]) -> dict:
    """Which recorded steps drew any of these samples, and which checkpoints carry them; counts, not the samples."""
    ids = [sorted(set(samples))]
    steps = query(
        f"SELECT stream, recipe, step, checkpoint, {COUNTS} FROM lineage_samples "
        "WHERE sample IN (SELECT unnest(?::VARCHAR[])) GROUP BY ALL ORDER BY ALL",
        ids,
    )
    carrying = carriers("SELECT DISTINCT step_plan FROM step_draws WHERE sample IN (SELECT unnest(?::VARCHAR[]))", ids)
    direct = sorted({row["checkpoint"] for row in carrying if row["how"] == "direct"})
    inherited = sorted({row["checkpoint"] for row in carrying} - set(direct))
    return {"steps": steps, "checkpoints": {"direct": direct, "inherited": inherited}}


def _steps(condition: str, parameters: list) -> list[dict]:
    return query(f"SELECT * FROM steps WHERE {condition} ORDER BY stream, recipe, step", parameters)


def _captions(condition: str, parameters: list, texts: int) -> list[dict]:
    return query(
        f"SELECT text, caption_kind, captioner, {COUNTS} "
        f"FROM step_draws WHERE {condition} GROUP BY ALL ORDER BY draws DESC, text LIMIT ?",
        [*parameters, texts],
    )


def _whole_digest(digest: str) -> str:
    """The one recorded checkpoint whose digest begins like this; the report and messages show beginnings."""
    if len(digest) == len("sha256:") + 64:
        return digest
    found = query("SELECT DISTINCT checkpoint FROM checkpoint_ancestors WHERE starts_with(checkpoint, ?)", [digest])
    if len(found) != 1 or len(digest) < len("sha256:") + 6:
        raise ValueError(f"{len(found)} recorded checkpoints begin with {digest!r}; give more of the digest")
    return found[0]["checkpoint"]


def _said(decision: decisions.Decision) -> dict:
    return decision.model_dump(exclude={"samples"})
