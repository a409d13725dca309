"""A year of a living stream: 200 arrivals of small batches; does the last cost what the first did?

One process, a tiny model. Prints per quarter of the year the median seconds of an arrival, the memory of the process,
the bytes that the home grew by, and stages run and re-used; then what the ledgers say.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from flows import environment


def main() -> None:
    """Live the year in a home that is thrown away, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arrivals", type=int, default=200, help="at least 8")
    parser.add_argument("--images", type=int, default=12, help="of each arrival")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-year-") as folder:
        os.environ["EVERGREEN_HOME"] = str(Path(folder) / "home")
        environment.open_home()
        from flows.server import api

        with api():
            rows = list(live(Path(folder), options.arrivals, options.images))
            print_quarters(rows)
            print_ledgers(options.arrivals)


def live(folder: Path, arrivals: int, images: int):
    """(seconds, megabytes of memory, megabytes on disk, stages run, stages re-used) of each arrival."""
    from flows.living import living_stream
    from tasks.journal import journal
    from tests.flows.living_streams import living_config, put

    config = living_config(folder / "inbox")
    for number in range(arrivals):
        put(folder / "inbox", number, images)
        started = time.perf_counter()
        with journal() as stages:
            outcome = living_stream(config)
        seconds = time.perf_counter() - started
        assert (outcome.step, outcome.verdict) == (number, "promote"), outcome
        reused = sum(stage.reused for stage in stages)
        yield seconds, memory(), on_disk(folder / "home"), len(stages) - reused, reused


def memory() -> float:
    """Megabytes of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def on_disk(home: Path) -> float:
    """Megabytes that the store and the result records take."""
    files = (path for part in ("store", "results") for path in (home / part).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files) / 1e6


def print_quarters(rows: list[tuple]) -> None:
    """One line per quarter, and the last against the first."""
    size = len(rows) // 4
    print("arrivals   seconds (median)   memory MB   store MB per arrival   stages run   re-used")
    medians = []
    for start in range(1, len(rows) - 1, size):  # the first arrival trains the weights to begin with
        part = rows[start : start + size]
        seconds, resident, _, ran, reused = (statistics.median(column) for column in zip(*part, strict=True))
        grown = (part[-1][2] - part[0][2]) / (len(part) - 1)
        medians.append((seconds, resident))
        print(f"{start:>4}-{start + len(part) - 1:<6} {seconds:>12.2f} {resident:>15.0f} {grown:>15.2f} "
              f"{ran:>19.0f} {reused:>9.0f}")  # fmt: skip
    (first, before), (last, after) = medians[0], medians[-1]
    print(f"last quarter against first: time {last / first:.2f}x, memory {after / before:.2f}x")


def print_ledgers(arrivals: int) -> None:
    """What the ledgers say after the year, held against each other."""
    from data_catalog import promotions
    from models import living

    steps = [living.load_step(digest) for digest in living.finished("colours")]
    entries = promotions.entries("colours")
    assert len(steps) == arrivals and [step.step for step in steps] == list(range(arrivals))
    assert [entry.step for entry in entries[1:]] == list(range(arrivals))
    assert all(step.started_from == entry.checkpoint for step, entry in zip(steps, entries, strict=False))
    print(f"{len(steps)} steps, {len(entries)} entries in the ledger: each step began with what was live")


if __name__ == "__main__":
    main()
