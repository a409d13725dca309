"""Which weights were made from which, as the manifests of the store say."""

import logging
from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa

from data_catalog import store

log = logging.getLogger(__name__)

PARENTS = pa.schema([("checkpoint", pa.string()), ("parent", pa.string()), ("role", pa.string())])
ANCESTORS = pa.schema([("checkpoint", pa.string()), ("ancestor", pa.string()), ("distance", pa.int32())])
FAR = np.int32(2**30)  # further than any ancestor


def parents(checkpoint: str) -> set[tuple[str, str]]:
    """The weights a checkpoint was made from directly, with their role: init (of an update), base or pick (of a merge).

    Bytes that were made in several ways have the parents of all of them.
    """
    found = set()
    for origin in store.origins(checkpoint):
        merged = origin.get("parents", {})
        named = {"init": origin.get("init"), "base": merged.get("base")}
        found |= {(digest, role) for role, digest in named.items() if digest}
        found |= {(digest, "pick") for digest in merged.get("picks", ())}
    return {(digest, role) for digest, role in found if digest != checkpoint}


def family(checkpoints: Iterable[str], known: Collection[str] = ()) -> dict[str, set[tuple[str, str]]]:
    """These checkpoints and all they descend from, each with its parents; parents come before their children.

    `known` ones and what lies beyond them are left out.
    """
    found: dict[str, set[tuple[str, str]]] = {}
    waiting, opened = [digest for digest in checkpoints if digest not in known], {}
    while waiting:
        digest = waiting[-1]
        if digest not in opened:
            opened[digest] = parents(digest)
            waiting += sorted({parent for parent, _ in opened[digest]} - opened.keys() - {*known})
        else:
            waiting.pop()
            found.setdefault(digest, opened[digest])
    return found


def updates_before(checkpoints: Iterable[str]) -> list[tuple[str, str]]:
    """The updates that ancestors of these checkpoints came from: (step plan, checkpoint), the nearest ones first.

    Without those of `checkpoints` themselves. A step plan that the store has lost is told in the log and left out.
    """
    given, found = set(checkpoints), []
    for digest in reversed(family(given)):
        plans = {origin["step_plan"] for origin in store.origins(digest) if origin.get("step_plan")}
        for plan in sorted(plans) if digest not in given else ():
            if store.is_intact(plan):
                found.append((plan, digest))
            else:
                log.warning("what %s was trained on is not recorded: its step plan %s is lost", digest, plan)
    return found


def parent_rows(known: dict[str, set[tuple[str, str]]]) -> pa.Table:
    """A family as rows (schema PARENTS)."""
    rows = sorted((child, parent, role) for child, all_of_them in known.items() for parent, role in all_of_them)
    return pa.table([pa.array([row[i] for row in rows], pa.string()) for i in range(3)], schema=PARENTS)


def ancestor_rows(known: dict[str, set[tuple[str, str]]]) -> pa.Table:
    """Every member of a family with all it descends from, the shortest way, itself at distance 0 (schema ANCESTORS)."""
    names = list(known)
    place = {name: i for i, name in enumerate(names)}
    distance = np.full((len(names), len(names)), FAR, np.int32)
    for i, name in enumerate(names):
        for parent, _ in known[name]:
            np.minimum(distance[i], distance[place[parent]] + 1, out=distance[i])
        distance[i, i] = 0
    child, ancestor = np.nonzero(distance < FAR)
    digests = pa.array(names, pa.string())
    columns = [digests.take(pa.array(child)), digests.take(pa.array(ancestor)), pa.array(distance[child, ancestor])]
    return pa.table(columns, schema=ANCESTORS)
