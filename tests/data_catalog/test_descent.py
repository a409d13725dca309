"""Descent of checkpoints: every ancestor once, by the shortest way, from the manifests of the store."""

from data_catalog import descent, store


def made(content, **origin):
    return store.write_bytes(content.encode(), **origin)


def running_merge(steps):
    """expert t starts from the merge of all earlier ones; returns experts and merges."""
    start = made("start", initialised_from="tiny")
    merges, experts = [start], []
    for t in range(steps):
        experts.append(made(f"expert {t}", made_by="update", init=merges[-1]))
        picks = {"base": start, "picks": [experts[-1], merges[-1]]}
        merges.append(made(f"merge {t}", made_by="merge", parents=picks))
    return experts, merges


def distances(checkpoints):
    rows = descent.ancestor_rows(descent.family(checkpoints)).to_pylist()
    found = {(row["checkpoint"], row["ancestor"]): row["distance"] for row in rows}
    assert len(found) == len(rows)
    return found


def test_parents_have_roles():
    experts, merges = running_merge(2)
    assert descent.parents(experts[1]) == {(merges[1], "init")}
    assert descent.parents(merges[2]) == {(merges[0], "base"), (experts[1], "pick"), (merges[1], "pick")}
    assert descent.parents(merges[0]) == set()


def test_a_chain_of_merges_carries_everything_before_it():
    experts, merges = running_merge(12)
    found = distances([merges[-1]])
    assert {(merges[-1], expert) for expert in experts} <= found.keys()
    assert (experts[3], experts[4]) not in found and (experts[4], experts[3]) in found


def test_the_shortest_way_counts():
    experts, merges = running_merge(12)
    found = distances([merges[-1]])
    assert found[merges[-1], merges[0]] == 1  # the base of every merge, however long the chain
    assert found[experts[11], experts[10]] == 2 and found[merges[5], merges[5]] == 0


def test_weights_nobody_knows_the_origin_of_are_their_own_family():
    unknown = f"sha256:{'0' * 64}"
    assert distances([unknown]) == {(unknown, unknown): 0}


def test_bytes_made_in_two_ways_have_the_parents_of_both():
    one, other = made("one"), made("other")
    for parent in (one, other):
        child = made("child", made_by="update", init=parent)
    assert descent.parents(child) == {(one, "init"), (other, "init")}


def test_a_long_chain_is_no_deep_recursion():
    _, merges = running_merge(200)
    assert len(distances([merges[-1]])) > 200 * 200
