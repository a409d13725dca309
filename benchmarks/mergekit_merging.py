"""One measured merge by mergekit (version 0.1.5, arXiv 2403.13257), run by the Python of mergekit's own environment.

    ENVIRONMENT/bin/python benchmarks/mergekit_merging.py '{"config": {...}, "output": FOLDER}'

The configuration is that of `mergekit-pytorch`, which merges any safetensors files. Prints one JSON object.
"""

import json
import resource
import sys
import time


def main() -> None:
    """Plan and carry out the merge as `mergekit-pytorch` does; loading its modules is not counted."""
    from mergekit.graph import Executor
    from mergekit.options import MergeOptions
    from mergekit.scripts.merge_raw_pytorch import RawPyTorchMergeConfig, plan_flat_merge

    given = json.loads(sys.argv[1])
    options = MergeOptions()
    options.apply_global_options()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    config = RawPyTorchMergeConfig.model_validate(given["config"])
    tasks = plan_flat_merge(config, given["output"], False, False, options)
    Executor(tasks, math_device="cpu", storage_device="cpu").execute()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak}))


if __name__ == "__main__":
    main()
