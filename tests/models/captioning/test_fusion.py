"""Class name and draft merged by a language model, here or behind a stub of an OpenAI-compatible endpoint."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import ValidationError

from data_catalog import store
from data_catalog.captions import CaptionPolicy, caption, caption_some, cut, training_texts
from data_catalog.outage import EndpointFailed
from data_catalog.places import home
from models.captioning import prompts
from models.captioning.fusion import Fusion, are_fit, tidy
from models.captioning.row_memory import hearing, known_already, stored
from models.captioning.seeds import Made, Recorded, Shipped
from models.captioning.writers import Local, OpenAI
from models.captioning.writers.openai import _wait


class Stub:
    """An endpoint on this machine; `plan` holds what it does with the next requests, then it merges properly."""

    def __init__(self):
        self.plan, self.requests, self.headers, self.at_once, self.most_at_once = [], [], [], 0, 0
        self.turn = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stub.turn:
                    stub.requests.append((self.path, body))
                    stub.headers.append(dict(self.headers))
                    todo = stub.plan.pop(0) if stub.plan else {}
                    stub.at_once += 1
                    stub.most_at_once = max(stub.most_at_once, stub.at_once)
                time.sleep(todo.get("delay", 0.005))
                with stub.turn:
                    stub.at_once -= 1
                if todo.get("hang_up"):
                    self.connection.close()
                    return
                answer = json.dumps(todo.get("body", merged(body))).encode()
                self.send_response(todo.get("status", 200))
                for name, value in todo.get("headers", {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def said(text, finish="stop"):
    message = {"role": "assistant", "content": text}
    return {"choices": [{"message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20}}  # fmt: skip


def merged(body):
    question = body["messages"][0]["content"]
    label, draft = (line.split(": ", 1)[1] for line in question.splitlines()[1:3])
    return said(f'"A {label} as in\n {draft}"')


@pytest.fixture
def stub():
    made = Stub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def remote(stub, **options):
    writer = OpenAI(base_url=stub.url, model="m-1", **{"pause_seconds": 0.001, "concurrency": 3} | options)
    return Fusion(writer=writer)


def rows(reference, kind="fusion"):
    return [row for row in store.read_table(reference.digest).to_pylist() if row["kind"] == kind]


def usage(reference):
    return store.origins(reference.digest)[-1]["usage"]


def test_an_answer_names_its_class_and_where_it_comes_from(stub, pictures):
    made = rows(caption(pictures(), captioner := remote(stub)))
    assert [row["text"] for row in made][:2] == ["A big cat as in draft 0", "A dog as in draft 1"]
    assert not any(row["fallback"] for row in made)
    assert (made[0]["captioner"], made[0]["model"]) == (captioner.id(), "m-1")
    assert made[0]["prompt"] == prompts.version_of("fusion_v1") and made[0]["prompt"].startswith("fusion_v1@")
    assert json.loads(made[0]["settings"])["seeds"] == "shipped:synthetic"


def test_the_endpoint_is_asked_at_temperature_zero_and_once_per_question(stub, pictures):
    caption(pictures(), remote(stub))
    assert len(stub.requests) == 6  # of seven images two are equal
    path, body = stub.requests[0]
    assert path == "/v1/chat/completions" and (body["temperature"], body["model"], body["max_tokens"]) == (0, "m-1", 80)


def test_concurrency_is_bounded(stub, pictures):
    stub.plan = [{"delay": 0.05}] * 6
    caption(pictures(), remote(stub, concurrency=2))
    assert stub.most_at_once == 2


@pytest.mark.parametrize("trouble", [{"status": 429}, {"status": 500}, {"status": 503, "headers": {"Retry-After": "0"}},
                                     {"status": 408}, {"status": 409}, {"hang_up": True}])  # fmt: skip
def test_passing_trouble_is_tried_again(trouble, stub, pictures):
    stub.plan = [trouble, trouble]
    made = rows(caption(pictures(), remote(stub)))
    assert len(stub.requests) == 8 and not any(row["fallback"] for row in made)


def test_a_slow_answer_is_asked_for_again(stub, pictures):
    stub.plan = [{"delay": 0.5}]
    assert len(rows(caption(pictures(1), remote(stub, timeout_seconds=0.2)))) == 2
    assert len(stub.requests) == 2


def test_retry_after_is_obeyed(stub, pictures):
    stub.plan = [{"status": 429, "headers": {"Retry-After": "0.3"}}]
    started = time.monotonic()
    caption(pictures(1), remote(stub))
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize("header, seconds", [("7", 7), (None, 0), ("soon", 0), ("-3", 0),
                                             ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])  # fmt: skip
def test_retry_after_comes_in_several_forms(header, seconds):
    assert _wait(header) == seconds


def test_an_endpoint_that_stays_broken_is_an_error_and_keeps_what_it_said(stub, pictures):
    stub.plan = [{}, {}, *[{"status": 500}] * 40]
    with pytest.raises(EndpointFailed, match=r"did not answer in 3 attempts, last: status 500"):
        caption(pictures(), remote(stub, retries=2, concurrency=1))
    stub.plan.clear()
    stub.requests.clear()
    assert len(rows(caption(pictures(), remote(stub)))) == 7
    assert len(stub.requests) == 4


@pytest.mark.parametrize("status", [401, 404, 400])
def test_a_refused_request_is_not_repeated(status, stub, pictures):
    stub.plan = [{"status": status, "body": {"error": "no such model"}}] * 6
    with pytest.raises(EndpointFailed, match=rf"status {status}.*no such model.*check `base_url`"):
        caption(pictures(), remote(stub, concurrency=1))
    assert len(stub.requests) == 1


def test_something_else_than_a_completion_is_an_error(stub, pictures):
    stub.plan = [{"body": {"hello": "world"}}] * 6
    with pytest.raises(EndpointFailed, match="something else than a chat completion"):
        caption(pictures(), remote(stub))


@pytest.mark.parametrize("bad", [
    {"body": said("I'm sorry, I cannot describe a big cat or a dog.")},
    {"body": said(None)},
    {"body": said("A big cat and a dog sit on a", finish="length")},
    {"body": said("A fish swims in the sea.")},
    {"status": 400, "body": {"error": {"code": "content_filter"}}},
])  # fmt: skip
def test_a_bad_answer_is_replaced_by_the_template_and_marked(bad, stub, pictures):
    stub.plan = [bad]
    reference = caption(pictures(), remote(stub, concurrency=1))
    fallbacks = [(row["sample"], row["text"]) for row in rows(reference) if row["fallback"]]
    assert fallbacks == [("PETS/train/0", "a photo of a big cat"), ("PETS/train/6", "a photo of a big cat")]
    assert usage(reference)["fallbacks"] == 2


def test_the_cost_is_counted_over_everything_that_was_asked(stub, pictures):
    reference = caption(pictures(), remote(stub, price_in=0.5, price_out=2.0))
    assert usage(reference) == {"images_without_draft": 0, "fallbacks": 0, "questions": 6, "tokens_in": 600,
                                "tokens_out": 120, "cost": 0.00054}  # fmt: skip
    again = caption(pictures(), remote(stub))  # another price asks nobody
    assert again == reference and len(stub.requests) == 6


def test_the_key_comes_from_the_environment_alone(stub, pictures, monkeypatch):
    with pytest.raises(ValueError, match="environment variable MY_KEY is not set"):
        caption(pictures(), remote(stub, key_variable="MY_KEY"))
    monkeypatch.setenv("MY_KEY", "hush")
    reference = caption(pictures(), captioner := remote(stub, key_variable="MY_KEY"))
    assert stub.headers[-1]["Authorization"] == "Bearer hush"
    assert "hush" not in json.dumps([store.origins(reference.digest), captioner.model_dump(mode="json")])


@pytest.mark.parametrize("url", ["https://me:secret@host/v1", "https://host/v1?key=x", "host/v1"])
def test_an_address_holds_no_secret(url):
    with pytest.raises(ValidationError, match="base_url"):
        OpenAI(base_url=url, model="m")


def test_place_price_and_patience_name_nothing(stub):
    same = {"price_in": 1.0, "concurrency": 9, "retries": 1, "timeout_seconds": 3, "key_variable": "K"}
    assert remote(stub, **same).id() == remote(stub).id()
    writer = OpenAI(base_url="http://other/v1", model="m-1")
    assert Fusion(writer=writer).id() == remote(stub).id()
    for other in ({"model": "m-2"}, {"max_new_tokens": 9}, {"revision": "q4"}):
        changed = OpenAI(**{"base_url": stub.url, "model": "m-1"} | other)
        assert Fusion(writer=changed).id() != remote(stub).id()
    assert Fusion(writer=writer, seeds=Shipped(captions="default")).id() != remote(stub).id()


@pytest.mark.parametrize("model", ["llama", "llama_chat"])
def test_a_local_model_answers_in_batches_what_it_answers_alone(model, tiny_model, pictures):
    questions = ["describe the cat", "a photo of the big red dog on the mat", "small"]
    answers = []
    for size in (1, 3):
        writer = Local(model=tiny_model(model), batch_size=size, max_new_tokens=5)
        answers.append([said for some in writer.answers(questions) for said in some])
    assert answers[0] == answers[1] and [place for place, _ in answers[0]] == [0, 1, 2]
    assert all(said.tokens_in > 0 for _, said in answers[0]) and any(said.texts for _, said in answers[0])


def test_an_answer_that_was_cut_is_none(tiny_model):
    writer = Local(model=tiny_model("llama"), max_new_tokens=1)
    said = [said for question in ("a", "cat", "mat", "of", "small") for [(_, said)] in writer.answers([question])]
    assert () in {answer.texts for answer in said}


def test_a_model_without_sense_falls_back_every_time(tiny_model, pictures):
    fusion = Fusion(writer=Local(model=tiny_model("llama_chat"), max_new_tokens=4, batch_size=4))
    made = rows(caption(pictures(), fusion))
    assert [row["fallback"] for row in made] == [True] * 7
    assert fusion.id() != Fusion(writer=Local(model=tiny_model("llama_chat"), max_new_tokens=4, batch_size=5)).id()


def test_drafts_can_be_made_first_and_are_stored_beside(stub, tiny_model, pictures):
    captioner = Made(model=tiny_model("blip_2_opt"), prompt="a photo of", max_new_tokens=6)
    dataset = pictures()
    reference = caption(dataset, Fusion(seeds=captioner, writer=remote(stub).writer))
    drafts = rows(reference, "seed")
    assert len(drafts) == len(rows(reference)) > 0 and drafts[0]["captioner"] == captioner.id()
    assert [row["position"] for row in store.read_table(reference.digest).to_pylist()][:2] == [0, 1]
    table = training_texts(dataset, [reference], CaptionPolicy(prefer=("written",)))
    assert set(table["kinds"].to_pylist()[1]) == {"fusion"}


def test_pieces_that_others_wrote_make_the_whole(tiny_model, pictures, monkeypatch, tmp_path):
    drafts = Made(model=tiny_model("blip_2_opt"), prompt="a photo of", max_new_tokens=6, batch_size=2)
    fusion = Fusion(seeds=drafts, writer=Local(model=tiny_model("llama"), max_new_tokens=5, batch_size=2))
    dataset, answers = pictures(), []
    monkeypatch.setenv("EVERGREEN_STORE", str(home() / "store"))
    whole = caption(dataset, fusion)
    for start, stop in cut(dataset, fusion, 4):
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / f"worker from {start}"))
        with hearing() as heard:
            caption_some(dataset, fusion, start, stop)
        answers.append(stored(heard, stage="test"))
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "flow"))
    monkeypatch.setattr(Made, "_ask", None)  # nobody is asked any more
    monkeypatch.setattr(Fusion, "_ask", None)
    with known_already(answers):
        assert len(answers) == 2 and caption(dataset, fusion) == whole


def test_a_service_is_asked_by_one_process(stub, pictures):
    assert cut(pictures(), remote(stub), 1) == []


def test_drafts_can_be_captions_made_earlier(stub, pictures):
    dataset = pictures()
    earlier = caption(dataset, remote(stub))
    again = caption(dataset, Fusion(seeds=Recorded(digest=earlier.digest), writer=remote(stub).writer))
    assert rows(again)[1]["text"] == "A dog as in A dog as in draft 1"
    others = caption(
        pictures(2, name="CATS"), Fusion(seeds=Recorded(digest=earlier.digest), writer=remote(stub).writer)
    )
    assert rows(others) == []


def test_images_without_class_or_draft_are_left_out(stub, pictures):
    fusion = Fusion(seeds=Shipped(captions="default"), writer=remote(stub).writer)
    assert rows(caption(pictures(), fusion)) == [] and stub.requests == []


def test_an_unknown_prompt_is_named(stub, pictures):
    with pytest.raises(ValueError, match=r"no prompt 'fusion_v9', only fusion_v1"):
        Fusion(writer=remote(stub).writer, prompt="fusion_v9").id()


@pytest.mark.parametrize("answer, fit", [
    ("A Big Cat on a mat.", True), ("big cat", False), ("A dog on a mat.", False), ("", False),
    ("A big cat that provides detailed real-world knowledge.", False), ("big cat " * 31, False),
])  # fmt: skip
def test_what_counts_as_an_answer(answer, fit):
    assert are_fit([answer], ["big cat"]).tolist() == [fit]


def test_answers_are_tidied():
    assert tidy(' "A cat\n on a  mat." ') == "A cat on a mat."
