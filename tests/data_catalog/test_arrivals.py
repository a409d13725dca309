"""Arrivals: nothing twice, nothing lost, and what comes later leaves earlier steps the bytes they were."""

import pytest

from data_catalog import store
from data_catalog.arrivals import compose_living, find_arrival
from data_catalog.captions import Template, caption
from data_catalog.exclusions import exclude
from data_catalog.mixture import Mixture
from data_catalog.shards import ingest
from data_catalog.sources import ImageFolder
from data_catalog.stream import compose_step, samples_of
from tests.data_catalog.conftest import aged, encoded


class Inbox:
    """A folder that images are put into, and what a stream makes of it."""

    def __init__(self, root):
        self.root, self.arrivals = root, []

    def put(self, **images):
        for name, value in images.items():
            concept, _, number = name.partition("_")
            path = self.root / concept / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(value))
        aged(self.root, seconds=100 - 5 * len(self.arrivals))  # each arrival a little younger

    def dataset(self):
        source = ImageFolder(name="inbox", dataset="PETS", data=str(self.root))
        return ingest(source, source.scan()[0])

    def arrive(self, **images):
        self.put(**images)
        return find_arrival([self.dataset()], self.arrivals)

    def live(self, **images):
        self.arrivals.append(self.arrive(**images))
        dataset = self.dataset()
        return compose_living([dataset], captions_of(dataset), self.arrivals, [])


def captions_of(dataset):
    return [caption(dataset, Template())]


@pytest.fixture
def inbox(tmp_path):
    return Inbox(tmp_path / "inbox")


def keys(arrival):
    return sorted(key.partition("#")[0] for key in store.read_table(arrival.digest)["key"].to_pylist())


def names_at(plan, step):
    return sorted(row["sample"] for row in samples_of(plan).to_pylist() if row["step"] == step)


def step(plan, number):
    return compose_step(plan, number, Mixture(pretraining=0, update=0.5, buffer=0.5), 4, 3, seed=1)


def test_an_arrival_holds_what_no_earlier_one_held(inbox):
    inbox.live(cat_0=0, dog_0=1)
    second = inbox.arrive(cat_1=2)
    assert second.samples == {"PETS": 1} and keys(second) == ["PETS/train/cat/1.png"]


def test_the_same_data_twice_is_no_arrival(inbox):
    inbox.live(cat_0=0, dog_0=1)
    assert inbox.arrive() is None


def test_a_picture_replaced_under_its_name_arrives_anew(inbox):
    inbox.live(cat_0=0, dog_0=1)
    plan = inbox.live(cat_0=7)
    assert names_at(plan, 0) == ["PETS/train/dog/0.png"] and names_at(plan, 1) == ["PETS/train/cat/0.png"]


def test_what_is_excluded_arrives_when_it_is_excluded_no_more(inbox):
    inbox.put(cat_0=0, dog_0=1)
    forgotten = exclude({"PETS/train/cat/0.png": "asked"}, "drop", "removal requests")
    first = find_arrival([inbox.dataset()], [], [forgotten])
    assert keys(first) == ["PETS/train/dog/0.png"]
    assert keys(find_arrival([inbox.dataset()], [first])) == ["PETS/train/cat/0.png"]


def test_later_arrivals_leave_the_bytes_of_earlier_steps(inbox):
    first = inbox.live(cat_0=0, dog_0=1, dog_1=2)
    second = inbox.live(cat_1=3, ape_0=4)  # a class that sorts before the others, a file between the others
    third = inbox.live(bee_0=5, cat_9=6)
    assert [s.samples for s in third.steps] == [3, 2, 2] and [s.concepts for s in third.steps] == [2, 2, 2]
    assert step(first, 0).digest == step(second, 0).digest == step(third, 0).digest
    assert step(second, 1).digest == step(third, 1).digest
    assert store.read_table(step(third, 2).digest)["pool"].to_pylist().count("buffer") == 6


def test_a_deleted_picture_leaves_the_buffer(inbox):
    inbox.live(cat_0=0, dog_0=1)
    (inbox.root / "cat/0.png").unlink()
    plan = inbox.live(dog_1=2)
    assert names_at(plan, 0) == ["PETS/train/dog/0.png"]


def test_a_step_whose_samples_have_all_gone_says_what_to_do(inbox):
    inbox.live(cat_0=0, dog_0=1)
    inbox.arrivals.append(inbox.arrive(ape_0=2))
    (inbox.root / "ape/0.png").unlink()
    dataset = inbox.dataset()
    with pytest.raises(ValueError, match=r"no sample of the newest arrival \(PETS\) is there any more: bring"):
        compose_living([dataset], captions_of(dataset), inbox.arrivals, [])


def test_pretraining_data_are_a_pool_and_never_arrive(inbox, datasets, captions):
    inbox.arrivals.append(inbox.arrive(cat_0=0))
    dataset, broad = inbox.dataset(), datasets["BROAD"]
    plan = compose_living([dataset, broad], [*captions_of(dataset), *captions], inbox.arrivals, ["BROAD"])
    assert plan.pretraining_samples == 6 and plan.steps[0].datasets == ("PETS",)


def test_the_plan_names_the_arrivals_it_was_made_of(inbox):
    plan = inbox.live(cat_0=0)
    (origin,) = store.origins(plan.digest)
    assert origin["arrivals"] == [inbox.arrivals[0].digest]
