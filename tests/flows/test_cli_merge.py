"""`evergreen merge` as a user types it."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_catalog import store
from models.adapters import travel
from tests.models.merging.test_techniques import BASE, EXPERTS, ORACLE, tensors

PUBLISHED = [  # options as the code of TIME names them; which rows of the oracle they are
    (["--technique", "interpolation", "--set", "coefficients=[0.5, 0.3, 0.2]"], 1),
    (["--technique", "slerp", "--set", "u=0.9", "--set", "paper=true"], 4),
    (["--technique", "task-arithmetic", "--set", "s=0.3"], 5),
    (["--technique", "ties", "--set", "p=0.7", "--set", "merge_func=max"], 9),
    (["--technique", "breadcrumbs_ties", "--set", "p=0.2", "--set", "q=0.1"], 10),
    (["--technique", "tall", "--set", "lambda=0.4", "--set", "k=2"], 14),
]


@pytest.fixture
def evergreen(evergreen):
    """Runs `evergreen merge`."""
    return partial(evergreen, "merge")


@pytest.fixture
def files(tmp_path):
    """Base and three experts of the reference's table, in float64."""
    paths = [tmp_path / f"{name}.safetensors" for name in ("base", "e1", "e2", "e3")]
    for path, weights in zip(paths, [BASE, *EXPERTS], strict=True):
        save_file(tensors(weights), path)
    return paths


def named(base, *experts, output):
    return ["--base", base, *(word for expert in experts for word in ("--expert", expert)), "--output", output]


def check_row(path, row):
    merged = load_file(path)
    assert merged["w"].tolist() == pytest.approx([float(x) for x in row[2].split()], abs=1e-6)
    assert merged["s"].item() == pytest.approx(row[3], abs=1e-6)


@pytest.mark.parametrize("row", ORACLE, ids=lambda row: str(row[1])[:50])
def test_merges_of_files_equal_the_reference(evergreen, files, tmp_path, row):
    settings = [f"--set={key}={json.dumps(value)}" for key, value in row[1].items() if key != "kind"]
    output = tmp_path / "out.safetensors"
    code, out, err = evergreen(
        "--technique", row[1]["kind"], *settings, *named(*files[: 1 + row[0]], output=output), "--json"
    )
    assert code == 0, err
    assert json.loads(out)["digest"] == store.digest_of_file(output)
    check_row(output, row)


@pytest.mark.parametrize(("options", "row"), PUBLISHED, ids=lambda value: str(value)[:50])
def test_published_names_of_settings_are_understood(evergreen, files, tmp_path, options, row):
    output = tmp_path / "out.safetensors"
    code, _, err = evergreen(*options, *named(*files[: 1 + ORACLE[row][0]], output=output))
    assert code == 0, err
    check_row(output, ORACLE[row])


def test_a_recipe_finds_its_files_and_options_replace_it(evergreen, files, tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "technique: {kind: task-arithmetic, scale: 9}\nbase: base.safetensors\n"
        "experts: [e1.safetensors, e2.safetensors, e3.safetensors]\noutput: out/merged.safetensors\n"
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    code, _, err = evergreen(recipe, "--set", "scale=0.3")
    assert code == 0, err
    check_row(tmp_path / "out" / "merged.safetensors", ORACLE[5])


@pytest.mark.parametrize(("of_recipe", "option", "wanted"), [
    ("task_arithmetic, lines: {alpha: 0.5, beta: 0.25}", "lines.alpha=0.3", {"lines": {"alpha": 0.3, "beta": 0.25}}),
    ("task_arithmetic, lines: {alpha: 0.5, beta: 0.25}", "lines_beta=1", {"lines": {"alpha": 0.5, "beta": 1}}),
    ("task_arithmetic, lines: {alpha: 0.5}", "lines=null", {"lines": None}),
    ("task_arithmetic, s: 0.3", "scale=0.5", {"scale": 0.5}),
    ("ties, density: 0.3, scale: 2", "p=0.5", {"density": 0.5, "scale": 2}),
    ("slerp, weights: [0.5, 0.5]", "u=0.1", {"weights": [0.1, 0.9]}),
])  # fmt: skip
def test_settings_of_a_recipe_are_replaced_one_by_one_whatever_their_names(
    evergreen, tmp_path, of_recipe, option, wanted
):
    for name in "bce":
        save_file({"resblocks.0.w": torch.ones(2)}, tmp_path / f"{name}.safetensors")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"technique: {{kind: {of_recipe}}}\nbase: b.safetensors\n"
        "experts: [c.safetensors, e.safetensors]\noutput: o.safetensors\n"
    )
    code, out, err = evergreen(recipe, "--set", option, "--dry-run", "--json")
    assert code == 0, err
    found = json.loads(out)["technique"]
    if wanted.get("lines"):
        found["lines"].pop("shape")
    assert found == found | wanted


def test_lines_are_set_by_dotted_keys(evergreen, tmp_path):
    base = {f"transformer.resblocks.{i}.w": torch.full((2,), i + 1.0) for i in range(3)} | {"head": torch.ones(2)}
    save_file(base, tmp_path / "b.safetensors")
    for name in "ce":
        save_file({key: value + 1 for key, value in base.items()}, tmp_path / f"{name}.safetensors")
    inputs = [tmp_path / f"{name}.safetensors" for name in "bce"]
    settings = ["--set", "lines.alpha=0.5", "--set", "lines_beta=0.5"]
    assert evergreen("--technique", "task_arithmetic", *settings, *named(*inputs, output=tmp_path / "o.safetensors"))[
        0
    ] == (0)
    merged = load_file(tmp_path / "o.safetensors")
    assert [merged[name][0].item() for name in sorted(merged, reverse=True)] == pytest.approx([5.0, 3.5, 2.0, 2.0])


def test_the_manifest_says_how_the_result_came_to_be(evergreen, files, tmp_path):
    output = tmp_path / "out.safetensors"
    code, out, _ = evergreen("--technique", "dare", "--seed", 7, *named(*files, output=output))
    found = json.loads((tmp_path / "out.safetensors.json").read_text())
    assert code == 0 and found["seed"] == 7 and found["technique"]["kind"] == "dare_linear"
    assert found["digest"] == store.digest_of_file(output)
    assert found["base"]["files"] == {str(files[0]): store.digest_of_file(files[0])}
    moved = [torch.cat([load_file(path)[name].flatten() for name in "ws"]) for path in (files[0], files[1], output)]
    assert found["geometry"]["expert_norms"][0] == pytest.approx((moved[1] - moved[0]).norm().item())
    assert found["geometry"]["merged_norm"] == pytest.approx((moved[2] - moved[0]).norm().item())
    assert "how far weights went" in out and "random numbers decide" in out


def test_a_dry_run_says_all_and_writes_nothing(evergreen, files, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = evergreen(
        "--technique", "ties", *named(*files, output=tmp_path / "new" / "o.safetensors"), "--dry-run"
    )
    assert code == 0 and sorted(tmp_path.rglob("*")) == before
    assert "density=0.2" in out and "text half 11" in out and "5 passes" in out and "memory: about" in out


def test_a_merge_that_fails_leaves_nothing(evergreen, files, tmp_path, monkeypatch):
    weights = load_file(files[3])
    save_file(weights | {"s": torch.tensor(float("nan"), dtype=torch.float64)}, files[3])
    before = sorted(tmp_path.rglob("*"))
    code, _, err = evergreen("--technique", "linear", *named(*files, output=tmp_path / "o.safetensors"))
    assert code == 2 and "'s' is not finite: expert 2" in err and sorted(tmp_path.rglob("*")) == before
    monkeypatch.setattr("models.merging.carried_out.measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    evergreen("--technique", "linear", *named(*files[:3], output=tmp_path / "o.safetensors"))
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_input_is_refused_with_what_there_is(evergreen, files, tmp_path):
    cut, other = tmp_path / "cut.safetensors", tmp_path / "other.safetensors"
    cut.write_bytes(files[1].read_bytes()[:-3])
    save_file(tensors(BASE) | {"w": torch.zeros(9, dtype=torch.float64)}, other)
    save_file({"a.lora_A.weight": torch.zeros(1, 2)}, tmp_path / "bare.safetensors")
    output = tmp_path / "o.safetensors"
    both = named(*files[:2], output=output)
    for arguments, reason in (
        (["--technique", "tiess", *both], "no technique 'tiess'; there are breadcrumbs_linear, "),
        (["--technique", "ties", "--set", "densty=1", *both], "no setting 'densty'; it has weights, paper, scale"),
        (["--technique", "ties", "--set", "density=2", *both], "density: Input should be less than or equal to 1"),
        (["--technique", "ties", "--set", "density", *both], "--set is 'density', expected key=value"),
        (["--technique", "ties", "--set", "p=.2", "--set", "density=.8", *both], "is set twice"),
        (["--technique", "ties", "--set", "lines_alpha=1", "--set", "lines.alpha=2", *both], "is set twice"),
        (["--technique", "ties", "--device", "gpu", "--dry-run", *both], "`device` is gpu, expected cpu"),
        (["--technique", "fisher", *both], "expected 1 of --statistics, found 0"),
        (["--technique", "linear", "--set", "weights=[.5,.5]", *both], "2 merge weights for 1 experts"),
        (["--technique", "linear", "--newest", 3, *both], "newest is 3"),
        (["--technique", "linear", "--base", files[0]], "needs --expert, --output too"),
        (["--technique", "linear", *named(files[0], cut, output=output)], "cut.safetensors is damaged"),
        (["--technique", "linear", *named(files[0], other, output=output)], "'w' [10] and [9]"),
        (["--technique", "linear", *named(files[0], tmp_path / "bare.safetensors", output=output)], "adapter_config"),
        (["--technique", "linear", *named(*files[:2], output=files[1])], "is an input"),
        (["--technique", "linear", *named(*files[:2], output=tmp_path / "folder")], "does not end in .safetensors"),
    ):
        code, out, err = evergreen(*arguments)
        assert code == 2 and reason in err and not out, (arguments, err)
    assert not output.exists()


def test_an_output_is_replaced_only_by_force(evergreen, files, tmp_path):
    output = tmp_path / "o.safetensors"
    output.write_bytes(b"mine")
    arguments = ["--technique", "task_arithmetic", "--set", "scale=0.3", *named(*files, output=output)]
    code, _, err = evergreen(*arguments)
    assert code == 2 and "is there already" in err and output.read_bytes() == b"mine"
    assert evergreen(*arguments, "--force")[0] == 0
    check_row(output, ORACLE[5])


def test_pickled_sharded_and_stored_weights_are_read(evergreen, files, tmp_path):
    torch.save(
        {"state_dict": {f"module.{name}": tensor for name, tensor in load_file(files[1]).items()}}, tmp_path / "e1.pt"
    )
    shards = tmp_path / "shards"
    shards.mkdir()
    for number, name in enumerate("ws"):
        save_file({name: load_file(files[2])[name]}, shards / f"{number}.safetensors")
    index = {"weight_map": {"w": "0.safetensors", "s": "1.safetensors"}}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    digest = store.write_bytes(files[3].read_bytes())
    output = tmp_path / "o.safetensors"
    code, _, err = evergreen(
        "--technique", "task_arithmetic", "--set", "s=0.3",
        *named(files[0], tmp_path / "e1.pt", shards, digest, output=output),
    )  # fmt: skip
    assert code == 0, err
    check_row(output, ORACLE[5])


def hugging_face_folder(folder, seed):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    half = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=half | {"vocab_size": 50, "max_position_embeddings": 8},
        vision_config=half | {"image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_a_folder_of_hugging_face_comes_out_as_one_that_loads(evergreen, tmp_path):
    from transformers import CLIPModel

    folders = [hugging_face_folder(tmp_path / name, seed) for seed, name in enumerate(("base", "one", "two"))]
    code, out, err = evergreen("--technique", "linear", *named(*folders, output=tmp_path / "merged"))
    assert code == 0 and "image half" in out, err
    one, two, merged = (CLIPModel.from_pretrained(tmp_path / name).state_dict() for name in ("one", "two", "merged"))
    assert all(torch.allclose(merged[name], (one[name] + two[name]) / 2, atol=1e-6) for name in one)
    assert json.loads((tmp_path / "merged" / "merge.json").read_text())["technique"]["kind"] == "linear"
    assert evergreen("--technique", "linear", *named(*folders, output=tmp_path / "merged"))[0] == 2
    assert evergreen("--technique", "linear", *named(*folders, output=tmp_path / "one"), "--force")[0] == 2
    assert evergreen("--technique", "linear", *named(*folders, output=tmp_path / "merged"), "--force")[0] == 0


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_of_peft_is_folded_onto_the_base_first(evergreen, tmp_path, dora):
    from peft import LoraConfig, get_peft_model
    from transformers import CLIPModel

    folder = hugging_face_folder(tmp_path / "base", 0)
    config = LoraConfig(r=2, lora_alpha=6, use_dora=dora, target_modules=["q_proj", "fc1"], init_lora_weights=False)
    adapted = get_peft_model(CLIPModel.from_pretrained(folder), config)
    adapted.save_pretrained(tmp_path / "adapter")
    code, _, err = evergreen("--technique", "linear", *named(folder, tmp_path / "adapter", output=tmp_path / "merged"))
    assert code == 0, err
    wanted = adapted.merge_and_unload().state_dict()
    merged = CLIPModel.from_pretrained(tmp_path / "merged").state_dict()
    base = CLIPModel.from_pretrained(folder).state_dict()
    assert all(torch.allclose(merged[name], wanted[name], atol=1e-5) for name in wanted)
    assert not torch.allclose(
        merged["vision_model.encoder.layers.0.mlp.fc1.weight"], base["vision_model.encoder.layers.0.mlp.fc1.weight"]
    )


def test_an_adapter_of_packed_attention_changes_its_third(evergreen, tmp_path):
    base = {"visual.attn.in_proj_weight": torch.zeros(6, 2), "visual.attn.out_proj.weight": torch.zeros(2, 2)}
    save_file(base, tmp_path / "base.safetensors")
    places = {"visual.attn.k_proj": {"lora_A": torch.ones(1, 2), "lora_B": torch.tensor([[1.0], [2.0]])}}
    travel.write(travel.Adapter(places, None), tmp_path / "adapter")
    code, _, err = evergreen(
        "--technique",
        "linear",
        *named(tmp_path / "base.safetensors", tmp_path / "adapter", output=tmp_path / "o.safetensors"),
    )
    merged = load_file(tmp_path / "o.safetensors")
    assert code == 0, err
    assert merged["visual.attn.in_proj_weight"].tolist() == [[0, 0], [0, 0], [1, 1], [2, 2], [0, 0], [0, 0]]
    places = {"visual.attn.nothing": places["visual.attn.k_proj"]}
    travel.write(travel.Adapter(places, None), tmp_path / "stranger")
    code, _, err = evergreen(
        "--technique",
        "linear",
        *named(tmp_path / "base.safetensors", tmp_path / "stranger", output=tmp_path / "p.safetensors"),
    )
    assert code == 2 and "'visual.attn.nothing', and the base has no matrix of that name" in err


@pytest.fixture
def open_clip_folder(tmp_path):
    """A folder without weights: two towers of one layer."""
    vision = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 8, "vocab_size": 60, "width": 16, "heads": 2, "layers": 1}
    config = {"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {"size": 16}}
    (tmp_path / "architecture").mkdir()
    (tmp_path / "architecture" / "open_clip_config.json").write_text(json.dumps(config))
    return tmp_path / "architecture"


def test_a_folder_of_open_clip_comes_out_as_one_that_loads(evergreen, tmp_path, open_clip_folder):
    from models import clip

    folders = [tmp_path / str(seed) for seed in range(3)]
    for seed, folder in enumerate(folders):
        clip.export_folder(clip.initialise(str(open_clip_folder), seed), folder)
    code, _, err = evergreen("--technique", "ties", *named(*folders, output=tmp_path / "merged"))
    assert code == 0, err
    imported = clip.build(clip.import_checkpoint(str(tmp_path / "merged"))).state_dict()
    merged = load_file(tmp_path / "merged" / "open_clip_model.safetensors")
    assert all(torch.equal(imported[name], merged[name]) for name in merged)


def test_paths_into_the_old_folder_lead_into_the_copy(evergreen, tmp_path, files):
    folder = tmp_path / "model"
    folder.mkdir()
    files[0].rename(folder / "open_clip_model.safetensors")
    (folder / "bpe.txt.gz").write_bytes(b"merges")
    (folder / "open_clip_config.json").write_text(json.dumps({"bpe_path": str(folder / "bpe.txt.gz"), "size": 3}))
    code, _, err = evergreen("--technique", "linear", *named(folder, *files[1:], output=tmp_path / "merged"))
    assert code == 0, err
    found = json.loads((tmp_path / "merged" / "open_clip_config.json").read_text())
    assert found == {"bpe_path": str(tmp_path / "merged" / "bpe.txt.gz"), "size": 3}
    assert (tmp_path / "merged" / "bpe.txt.gz").read_bytes() == b"merges"


def test_a_base_folder_that_cannot_be_copied_is_refused_before_the_merge(evergreen, tmp_path, files):
    folder = tmp_path / "model"
    (folder / "more").mkdir(parents=True)
    files[0].rename(folder / "open_clip_model.safetensors")
    (folder / "more" / "extra.json").write_text("{// no JSON\n}")
    for output in (tmp_path / "merged", folder / "merged"):
        code, _, err = evergreen("--technique", "linear", *named(folder, *files[1:], output=output), "--dry-run")
        assert code == 2 and ("is inside the base's folder" if folder in output.parents else "extra.json") in err
    (folder / "more" / "extra.json").write_text("{}")
    assert evergreen("--technique", "linear", *named(folder, *files[1:], output=tmp_path / "merged"))[0] == 0
    assert (tmp_path / "merged" / "more" / "extra.json").read_text() == "{}"


def test_what_cannot_be_measured_is_called_as_the_user_does(evergreen, tmp_path):
    torch.save({"w": torch.tensor([1.0, float("inf")])}, tmp_path / "e.pt")
    save_file({"w": torch.ones(2)}, tmp_path / "b.safetensors")
    output = tmp_path / "o.safetensors"
    inputs = named(tmp_path / "b.safetensors", tmp_path / "e.pt", output=output)
    code, _, err = evergreen("--technique", "linear", *inputs)
    assert code == 2 and f"not finite in {tmp_path / 'e.pt'}, the output {output};" in err
