"""A living stream whose data has not come yet, is being written, or was damaged on the way."""

import shutil

import pytest

from flows.living import living_stream
from flows.watch import watch
from tests.flows.living_streams import living_config, put, raw_living

pytestmark = pytest.mark.usefixtures("prefect_backend")
DRAWN = ["ANIMALS", "BLENDS", "CHARTS", "COUNTS", "DIGITS", "FLAGS", "FRUITS", "SCENES", "SHAPES", "SIGNS", "SKETCHES",
         "TEXTURES"]  # fmt: skip


def fed_by(inbox, **settle):
    """A stream that nothing but the inbox feeds."""
    sources = raw_living(inbox)["sources"]
    return living_config(inbox, pretraining=DRAWN, sources=[sources[0], sources[1] | {"settle": settle}])


def test_a_stream_begins_with_what_is_whole_and_survives_what_is_not(tmp_path):
    (inbox := tmp_path / "inbox").mkdir()
    config = fed_by(inbox, marker="done")
    assert living_stream(config).did == "nothing new"  # an empty inbox

    (inbox / "red").mkdir()
    (inbox / "red" / "broken.png").write_bytes(b"no picture")
    (inbox / "red" / "done").touch()
    assert living_stream(config).did == "nothing new"  # nothing usable in it yet
    (inbox / "red" / "broken.png").unlink()

    put(inbox, 0)
    assert living_stream(config).did == "nothing new"  # changed after the marker, or in folders without
    (inbox / "done").touch()
    watched = watch(config)  # the flow of a schedule, without a deployment that would take the step
    assert (watched.did, watched.outcome["did"]) == ("ran", "step")
    assert watch(config).waiting.verdict == "nothing new"

    shutil.move(inbox, tmp_path / "unmounted")
    with pytest.raises(ValueError, match="samples of COLOURS, and now"):
        living_stream(config)
