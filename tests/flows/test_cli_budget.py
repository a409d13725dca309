import json

import pytest

from tests.models.conftest import tiny_folder  # noqa: F401

PROMISED = {"method", "gflops_per_iteration", "memory_multiplier", "mafs_per_iteration", "iterations_per_step"}


@pytest.fixture
def budget(evergreen, tiny_folder):  # noqa: F811
    """Runs the command on a tiny model in this process; returns (exit code, stdout, stderr)."""

    def run(*arguments, model=tiny_folder):
        return evergreen("budget", "--model", model, "--batch-size", 8, *arguments)

    return run


def rows(budget, *arguments):
    code, out, _ = budget(*arguments, "--json")
    assert code == 0
    return {row["method"]: row for row in json.loads(out)}


def test_it_prints_a_row_per_chosen_method(budget):
    found = rows(budget, "--method", "finetune", "--method", "lora", "--steps", "5", "--total", "1e5")
    assert list(found) == ["finetune", "lora r=4", "lora r=64"]
    assert set(found["finetune"]) >= PROMISED and found["finetune"]["memory"] == "predicted"
    price = found["finetune"]["gflops_per_iteration"]
    assert found["finetune"]["iterations_per_step"] == int(1e5 / price / 5 + 0.5)


def test_hours_of_a_device_become_iterations(budget):
    few, many = (
        rows(budget, "--method", "finetune", "--hours", hours, "--device", "a100")["finetune"]["iterations_per_step"]
        for hours in (1, 2)
    )
    assert few > 0 and many == pytest.approx(2 * few, abs=1)


def test_the_table_names_the_budget_and_where_the_memory_is_from(budget):
    code, out, _ = budget("--method", "bitfit", "--hours", "8")
    assert code == 0 and "bitfit" in out and "8 hours of h200" in out.replace("\n", " ") and "predicted" in out


@pytest.mark.parametrize("arguments, said", [
    (("--hours", 8, "--total", 5), "a budget is one of them"),
    (("--hours", 8, "--device", "abacus"), "device: "),
    (("--method", "magic"), "no method 'magic'"),
    (("--profile", "paper", "--method", "zscl"), "no method 'zscl' in this table"),
])  # fmt: skip
def test_bad_input_says_what_is_wrong(budget, arguments, said):
    code, _, err = budget(*arguments)
    assert code == 2 and said in err and "Traceback" not in err


def test_an_unknown_model_is_bad_input(budget):
    code, _, err = budget(model="ViT-Z-1")
    assert code == 2 and "neither a folder" in err
