"""MLflow's registered model says what the ledger says, whatever was killed, lost or added by others."""

import json
import shutil

import open_clip
import pytest
from mlflow import MlflowClient

from data_catalog import promotions, store
from data_catalog.promotions import Promotion
from data_catalog.store import MissingArtifact
from models import clip
from tasks import registry, tracking
from tests.models.conftest import tiny_folder  # noqa: F401 a fixture

pytestmark = pytest.mark.usefixtures("own_database")


@pytest.fixture
def weights(tiny_folder):  # noqa: F811
    return lambda seed: clip.initialise(str(tiny_folder), seed)


def enter(deed: str, checkpoint, returns_to: int | None = None) -> Promotion:
    live = promotions.live("stream")
    entry = Promotion(number=0, deed=deed, checkpoint=checkpoint.digest, backbone=checkpoint.backbone, by="person",
                      reason="as asked", returns_to=returns_to, time="")  # fmt: skip
    return promotions.add("stream", entry, follows=live and live.number)


def client() -> MlflowClient:
    return MlflowClient(tracking.tracking_uri())


def entries() -> dict[str, str]:
    """Version -> entry of the ledger."""
    found = client().search_model_versions("name = 'stream'")
    return {version.version: version.tags[registry.ENTRY] for version in found}


def champion() -> str:
    return client().get_model_version_by_alias("stream", registry.CHAMPION).tags[registry.DIGEST]


def folder(version: int):
    source = client().get_model_version("stream", str(version)).source
    return tracking.folder_of(client().get_logged_model(source.removeprefix("models:/")))


def test_every_promotion_is_a_version_and_the_live_one_is_champion(weights):
    first, second = weights(0), weights(1)
    enter("start", first)
    enter("reject", second)
    enter("promote", second)
    made = registry.agree("stream")
    assert made.versions == {0: 1, 2: 2} and champion() == second.digest
    assert len({str(version) for version in entries()}) == 2


def test_told_again_it_adds_nothing_and_a_run_does_not_even_open_mlflow(weights, monkeypatch):
    enter("start", weights(0))
    registry.agree("stream")
    assert registry.agree("stream").added == ()
    assert registry.is_up_to_date("stream", promotions.entries("stream"))
    enter("promote", weights(1))
    assert not registry.is_up_to_date("stream", promotions.entries("stream"))


def test_a_rollback_moves_the_alias_and_makes_no_version(weights):
    first, second = weights(0), weights(1)
    enter("start", first)
    enter("promote", second)
    registry.agree("stream")
    enter("rollback", first, returns_to=0)
    assert not registry.is_up_to_date("stream", promotions.entries("stream"))
    assert registry.agree("stream").added == () and champion() == first.digest
    enter("promote", weights(2))
    enter("rollback", first, returns_to=2)  # to a rollback
    registry.agree("stream")
    assert champion() == first.digest and len(entries()) == 3


@pytest.mark.parametrize("where", ["write_version", "costs", "create_model_version", "set_registered_model_alias"])
def test_a_run_killed_anywhere_is_made_whole_by_the_next(weights, monkeypatch, where):
    enter("start", weights(0))
    enter("promote", weights(1))

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if where == "write_version":
            patch.setattr(registry, "write_version", kill)
        elif where == "costs":
            patch.setattr(tracking.Tracker, "finish", kill)
        else:
            patch.setattr(MlflowClient, where, kill)
        with pytest.raises(KeyboardInterrupt):
            registry.agree("stream")
    registry.agree("stream")
    assert sorted(entries().values()) == ["0", "1"] and champion() == promotions.live("stream").checkpoint
    models = client().search_logged_models([client().get_experiment_by_name("stream").experiment_id])
    assert len(models) == 2


def test_a_lost_database_is_made_again(weights, empty_database, tmp_path):
    enter("start", weights(0))
    enter("promote", weights(1))
    registry.agree("stream")
    shutil.copy(empty_database, tmp_path / "home" / "mlflow.db")
    assert len(registry.agree("stream").added) == 2


def test_what_housekeeping_let_go_stays_in_the_registry_and_does_not_stop_a_new_one(weights, empty_database, tmp_path):
    enter("start", weights(0))
    enter("promote", weights(1))
    enter("promote", weights(2))
    registry.agree("stream")
    store.path_of(weights(1).digest).unlink()
    assert registry.is_up_to_date("stream", promotions.entries("stream"))
    assert registry.agree("stream").gone == () and registry._is_whole(folder(2), promotions.entries("stream")[1])
    shutil.copy(empty_database, tmp_path / "home" / "mlflow.db")
    assert registry.agree("stream").gone == (1,) and sorted(entries().values()) == ["0", "2"]
    assert registry.is_up_to_date("stream", promotions.entries("stream"))
    store.path_of(weights(2).digest).unlink()
    shutil.copy(empty_database, tmp_path / "home" / "mlflow.db")
    with pytest.raises(MissingArtifact):
        registry.agree("stream")


def test_a_version_holds_all_that_openclip_needs_and_no_second_copy(weights):
    checkpoint = weights(0)
    enter("start", checkpoint)
    registry.agree("stream")
    place = folder(1)
    assert (place / registry.WEIGHTS).samefile(store.locate(checkpoint.digest))
    open_clip.create_model_and_transforms(f"local-dir:{place}")
    facts = json.loads((place / registry.FACTS).read_text())
    assert facts["preprocessing"]["size"] == 16 and facts["tokenizer"].startswith("OpenCLIP SimpleTokenizer")
    assert checkpoint.digest in (place / "README.md").read_text()


def test_lost_files_of_a_version_are_written_again(weights):
    enter("start", weights(0))
    registry.agree("stream")
    shutil.rmtree(folder(1))
    assert registry.agree("stream").repaired == (1,)
    assert registry.agree("stream").repaired == ()


def test_what_the_ledger_does_not_know_is_marked_and_what_others_made_is_left(weights):
    enter("start", weights(0))
    registry.agree("stream")
    source = client().get_model_version("stream", "1").source
    client().create_model_version("stream", source)
    client().create_model_version("stream", source, tags={registry.ENTRY: "7", registry.DIGEST: "sha256:other"})
    client().create_model_version("stream", source, tags=client().get_model_version("stream", "1").tags)
    made = registry.agree("stream")
    assert made.unknown == (3,) and made.versions == {0: 1}
    tags = {v.version: v.tags for v in client().search_model_versions("name = 'stream'")}
    assert {int(version) for version in tags} == {1, 2, 3} and registry.UNKNOWN in tags[3]


def test_a_stream_that_never_ran_is_named():
    with pytest.raises(ValueError, match="no living stream 'nothing' has run"):
        registry.agree("nothing")


def test_an_mlflow_that_does_not_answer_is_an_outage(weights, monkeypatch):
    from mlflow.exceptions import MlflowException

    enter("start", weights(0))

    def fail(*args, **kwargs):
        raise MlflowException("no answer")

    monkeypatch.setattr(MlflowClient, "search_registered_models", fail)
    with pytest.raises(tracking.MLflowFailed, match="evergreen registry"):
        registry.agree("stream")
