"""What waits for a living stream by listing alone, when it makes a step, and who is asked for it, once."""

import json
import os
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import get_client

from data_catalog.arrivals import Arrival
from data_catalog.news import news_of
from data_catalog.places import store_root
from flows import arriving, handing_over
from flows.arriving import configured, look
from flows.handing_over import find_deployment, hand_over, watch_once
from models import living
from models.living import BegunStep
from tasks.locks import exclusive
from tests.flows.living_streams import living_config, put, raw_living, written


@pytest.fixture
def inbox(tmp_path):
    put(tmp_path / "inbox", 0)
    return tmp_path / "inbox"


def fed_by(inbox, **arrivals):
    """A stream that nothing but its inbox feeds, with weights that need no data."""
    config = living_config(inbox, living={"arrivals": arrivals})
    return config.model_copy(update={"sources": config.sources[1:]})


def taken(config):
    """As after a run that made a step of everything."""
    for source in config.arriving:
        source.scan()


def waiting_since(config, hours):
    """The note of a run that found seven samples too few."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    path = store_root() / "living" / f"{config.name}.waiting.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"since": since.isoformat(), "samples": {"COLOURS": 7}}))
    taken(config)


def test_new_files_make_a_step_and_are_no_news_once_they_were_looked_at(inbox):
    config = fed_by(inbox)
    assert (look(config).verdict, look(config).why) == ("start", "12 new files")
    taken(config)
    assert (look(config).verdict, look(config).files) == ("nothing new", 0)
    put(inbox, 1)
    assert look(config).files == 12


def test_a_file_written_again_is_news(inbox):
    config = fed_by(inbox)
    taken(config)
    path = inbox / "red" / "0000-00.png"
    path.write_bytes((inbox / "red" / "0000-03.png").read_bytes())
    assert look(config).files == 1


def test_a_look_opens_no_file(inbox, monkeypatch):
    def opened(*_):
        raise AssertionError("a file was opened")

    config = fed_by(inbox)
    monkeypatch.setattr("data_catalog.files.read_range", opened)
    monkeypatch.setattr("data_catalog.files.read_ranges", opened)
    assert look(config).verdict == "start"


def test_too_few_files_wait_for_more(inbox):
    config = fed_by(inbox, least_samples=20)
    assert (look(config).verdict, look(config).why) == ("wait", "12 new files wait for 20")
    put(inbox, 1)
    assert look(config).verdict == "start"


def test_what_a_run_found_too_few_counts_with_what_is_new(inbox):
    config = fed_by(inbox, least_samples=20)
    waiting_since(config, 0)
    assert look(config).why == "7 new samples wait for 20"
    put(inbox, 1)
    assert look(config).verdict == "wait"
    put(inbox, 2, count=1)
    assert (look(config).verdict, look(config).why) == ("start", "13 new files, 7 new samples")


def test_after_the_longest_wait_few_are_enough(inbox):
    config = fed_by(inbox, least_samples=20, longest_wait_hours=2)
    waiting_since(config, 1.9)
    assert look(config).verdict == "wait"
    waiting_since(config, 2.1)
    assert (look(config).verdict, look(config).now) == ("start", True)


def test_the_wait_of_files_that_no_run_saw_counts_from_the_first_look(inbox, monkeypatch):
    config = fed_by(inbox, least_samples=20, longest_wait_hours=2)
    assert look(config).verdict == "wait"
    clock_ahead(monkeypatch, 3)
    assert look(config).now


def test_a_clock_that_went_back_starts_the_wait_anew(inbox, monkeypatch, caplog):
    config = fed_by(inbox, least_samples=20, longest_wait_hours=2)
    waiting_since(config, -5)
    assert look(config).verdict == "wait" and "the clock went back" in caplog.text
    (store_root() / "living" / "colours.waiting.json").unlink()
    put(inbox, 1, count=1)
    clock_ahead(monkeypatch, 2.5)
    assert look(config).now


def test_the_rest_of_a_batch_is_waited_for_but_not_for_ever(inbox, monkeypatch):
    config = fed_by(inbox, settle={"quiet_seconds": 60})
    make_older(monkeypatch, inbox / "red")
    found = look(config)
    assert (found.verdict, found.files, found.settling) == ("wait", 4, 8) and "more is coming" in found.why
    clock_ahead(monkeypatch, 601 / 3600)
    assert look(config).verdict == "start"


def test_folders_without_marker_hold_nothing_up(inbox):
    config = fed_by(inbox, settle={"marker": "done"})
    assert look(config).verdict == "nothing new"
    (inbox / "red" / "done").touch()
    found = look(config)
    assert (found.verdict, found.files, found.settling) == ("start", 4, 8)


def test_an_unfinished_step_is_started_and_a_run_at_work_is_left_alone(inbox):
    config = fed_by(inbox)
    taken(config)
    living.begin("colours", BegunStep(step=0, arrival=Arrival(digest="sha256:" + "0" * 64, samples={"COLOURS": 1}),
                                      prepared="sha256:" + "0" * 64))  # fmt: skip
    assert look(config).why == "step 0 was begun and not finished"
    with exclusive(arriving.lock_of("colours")):
        assert look(config).verdict == "at work"


def test_equal_data_have_equal_ids_and_other_data_others(inbox):
    config = fed_by(inbox)
    first = look(config).id
    assert look(config).id == first
    taken(config)
    assert look(config).id == first  # of what is there, not of what was seen of it
    put(inbox, 1)
    assert look(config).id != first


def test_data_that_is_only_pretrained_on_or_scored_is_not_watched(inbox):
    config = fed_by(inbox)
    assert look(config.model_copy(update={"pretraining": ("COLOURS",)})).news == ()


def test_news_of_an_index_is_told_without_its_bytes(inbox):
    (source,) = fed_by(inbox).arriving
    source = source.model_copy(update={"check": "index"})
    assert news_of(source).files == 12
    source.scan()
    assert news_of(source).files == 0 and not news_of(source).is_changed


def test_a_name_that_is_neither_file_nor_stream_is_refused():
    with pytest.raises(ValueError, match="neither the file of a living stream nor the name"):
        configured("nothing")


def test_without_a_server_the_step_is_taken_here_and_only_if_due(inbox, tmp_path, monkeypatch):
    monkeypatch.setattr(handing_over, "server", lambda: None)
    path, ran = str(written(tmp_path / "living.yaml", inbox)), []
    watched = watch_once(path, None, lambda config, now: ran.append(now) or {"did": "step"})
    assert (watched.did, ran) == ("ran", [False])
    taken(configured(path)[0])
    assert watch_once(path, None, lambda *_: pytest.fail("nothing was due")).did == "nothing"
    put(inbox, 1)
    with pytest.raises(ValueError, match="no Prefect server runs that has the deployment"):
        watch_once(path, "gpu", lambda *_: {})


def test_notify_and_watch_say_what_waits(inbox, tmp_path, evergreen, monkeypatch):
    path = written(tmp_path / "living.yaml", inbox, living={"arrivals": {"least_samples": 1000}},
                   sources=raw_living(inbox)["sources"][1:])  # fmt: skip
    code, out, _ = evergreen("watch", path, "--once")
    assert code == 0 and out == "colours: wait: 12 new files wait for 1000\n"
    monkeypatch.setattr(handing_over, "server", lambda: None)
    code, _, told = evergreen("notify", path)
    assert code == 2 and "no Prefect server runs that could be told" in told


@pytest.mark.usefixtures("prefect_backend")
class TestAServer:
    """Of a real Prefect server."""

    @pytest.fixture
    def url(self):
        from prefect.settings import PREFECT_API_URL

        return PREFECT_API_URL.value()

    @pytest.fixture
    def deploy(self, url):
        made = []

        def make(name, **parameters):
            flow = post(url, "flows/", {"name": handing_over.FLOW})
            made.append(post(url, "deployments/", {"name": name, "flow_id": flow["id"], "parameters": parameters}))
            return made[-1]

        yield make
        with get_client(sync_client=True) as client:  # which asks a busy server again
            for deployment in made:
                client.delete_deployment(deployment["id"])

    def test_watchers_that_look_at_one_moment_get_one_run(self, inbox, url, deploy):
        deployment, waiting, runs = deploy("colours"), look(fed_by(inbox)), []
        ready = threading.Barrier(4)

        def ask():
            ready.wait()
            runs.append(hand_over(url, deployment, waiting, "living.yaml"))

        watchers = [threading.Thread(target=ask) for _ in range(4)]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        assert len(runs) == 4 and len({run.run for run in runs}) == 1

    def test_a_run_that_failed_is_asked_for_anew_but_not_for_ever(self, inbox, url, deploy):
        deployment, waiting, runs = deploy("colours"), look(fed_by(inbox)), []
        for _ in range(3):
            runs.append(hand_over(url, deployment, waiting, "living.yaml"))
            assert runs[-1].is_new
            post(url, f"flow_runs/{runs[-1].run}/set_state", {"state": {"type": "FAILED"}, "force": True})
        assert len({run.run for run in runs}) == 3
        with pytest.raises(ValueError, match="3 runs of living-stream/colours"):
            hand_over(url, deployment, waiting, "living.yaml")
        put(inbox, 1)  # other data are tried anew
        assert hand_over(url, deployment, look(fed_by(inbox)), "living.yaml").is_new

    def test_a_run_that_is_said_to_run_but_holds_no_lock_is_asked_for_anew(self, inbox, url, deploy, monkeypatch):
        deployment, waiting = deploy("colours"), look(fed_by(inbox))
        lost = hand_over(url, deployment, waiting, "living.yaml")
        post(url, f"flow_runs/{lost.run}/set_state", {"state": {"type": "RUNNING"}, "force": True})
        assert hand_over(url, deployment, waiting, "living.yaml").run == lost.run
        monkeypatch.setattr(handing_over, "LOST_SECONDS", -1)
        assert hand_over(url, deployment, waiting, "living.yaml").run != lost.run

    def test_the_deployment_is_the_one_named_the_streams_own_or_the_only_one(self, url, deploy):
        assert find_deployment(url, "colours", None) is None
        deploy("any")
        assert find_deployment(url, "colours", None)["name"] == "any"
        deploy("other", config="flows/../living.yaml")
        assert find_deployment(url, "colours", str(Path("living.yaml").resolve()))["name"] == "other"
        with pytest.raises(ValueError, match="several deployments may take a step of colours: any, other"):
            find_deployment(url, "colours", None)
        deploy("colours")
        assert find_deployment(url, "colours", None)["name"] == "colours"
        assert find_deployment(url, "colours", None, "any")["name"] == "any"
        with pytest.raises(ValueError, match="no deployment 'gpu'"):
            find_deployment(url, "colours", None, "gpu")

    def test_a_watch_hands_the_step_over_with_its_configuration(self, inbox, tmp_path, url, deploy, monkeypatch):
        monkeypatch.setenv("PREFECT_API_URL", url)
        deploy("colours")
        path = str(written(tmp_path / "living.yaml", inbox))
        watched = watch_once(path, None, lambda *_: pytest.fail("ran here"))
        run = get(url, f"flow_runs/{watched.run.run}")
        assert (watched.did, run["parameters"]) == ("handed over", {"config": path, "now": False})
        again = watch_once(path, None, lambda *_: pytest.fail("ran here"))
        assert (again.did, again.run.run) == ("nothing", watched.run.run)

    def test_a_server_that_refuses_says_why(self, url):
        with pytest.raises(ValueError, match="answered 404"):
            handing_over.post(url, "no-such-place", {})
        with pytest.raises(ValueError, match="no Prefect server answers"):
            handing_over.post("http://127.0.0.1:9", "events", [])


def post(url, path, body):
    return handing_over.post(url, path, body)


def get(url, path):
    for pause in (*handing_over.PAUSES, None):
        try:
            with urllib.request.urlopen(f"{url}/{path}") as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in handing_over.BUSY or pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def clock_ahead(monkeypatch, hours):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=hours)

    monkeypatch.setattr(arriving, "datetime", Ahead)


def make_older(monkeypatch, folder):
    """Let the files of a folder have been written an hour ago; their own times cannot be set."""
    from data_catalog import folders
    from data_catalog.file_stats import local_stat

    inodes = {path.stat().st_ino for path in folder.iterdir()}

    def stat(found: os.stat_result):
        told = local_stat(found)
        is_old = found.st_ino in inodes
        return told._replace(changed_ns=told.changed_ns - 3600 * 10**9) if is_old else told

    monkeypatch.setattr(folders, "local_stat", stat)
