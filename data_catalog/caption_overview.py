"""What the catalog knows of the captions of a dataset: counts, quality and examples, by kind and captioner."""

from data_catalog import catalog, store

_CURRENT = """
    WITH current AS (  -- of each captioner what was recorded last
        SELECT c.* FROM captions c
        LEFT JOIN ingest_runs r ON r.what = 'captions' AND r.digest = c.version AND r.dataset = c.dataset
        WHERE c.dataset = $dataset
        QUALIFY r.recorded_at IS NULL OR r.recorded_at = max(r.recorded_at) OVER (PARTITION BY c.captioner)
    )
"""
_COUNTS = """
    SELECT kind, captioner, model, prompt, count(*) AS texts, count(DISTINCT sample) AS images,
           avg(words) AS mean_words, quantile_cont(words, 0.99) AS p99_words, max(words) AS most_words,
           count_if(leak) AS leaks, count_if(fallback) AS fallbacks, version
    FROM current GROUP BY ALL ORDER BY kind, captioner
"""
_SCORES = """
    SELECT c.kind, c.captioner, s.checkpoint, count(s.clip_score) AS texts, avg(s.clip_score) AS mean_clip_score
    FROM current c JOIN caption_scores s
    ON s.captions = c.version AND s.dataset = c.dataset AND s.sample = c.sample AND s.position = c.position
    GROUP BY ALL HAVING count(s.clip_score) > 0 ORDER BY ALL
"""
_EXAMPLES = """
    SELECT sample, kind, text, captioner, model, prompt, words, leak, fallback FROM current
    WHERE ($kind IS NULL OR kind = $kind) AND (NOT $suspicious OR leak OR fallback)
    ORDER BY hash(sample), sample, kind, captioner, position LIMIT $limit
"""


def overview(dataset: str) -> list[dict]:
    """Per kind and captioner: texts, images, words, leaks, fallbacks, and what the making took (`usage`).

    Raises ValueError if the catalog has no captions of `dataset`.
    """
    rows = catalog.query(_CURRENT + _COUNTS, {"dataset": dataset})
    if not rows:
        known = [row["dataset"] for row in catalog.query("SELECT DISTINCT dataset FROM captions ORDER BY 1")]
        raise ValueError(f"the catalog has no captions of {dataset!r}, only of {known}; ingest it first")
    return [row | {"usage": _usage(row.pop("version"))} for row in rows]


def scores(dataset: str) -> list[dict]:
    """Per kind, captioner and checkpoint: the texts that were scored and their mean."""
    return catalog.query(_CURRENT + _SCORES, {"dataset": dataset})


def examples(dataset: str, kind: str | None, limit: int, suspicious: bool = False) -> list[dict]:
    """Some texts with where they come from, always the same ones; `suspicious`: only leaks and fallbacks."""
    given = {"dataset": dataset, "kind": kind, "limit": limit, "suspicious": suspicious}
    return catalog.query(_CURRENT + _EXAMPLES, given)


def _usage(version: str) -> dict:
    made = [origin["usage"] for origin in store.origins(version) if "usage" in origin]
    return made[-1] if made else {}
