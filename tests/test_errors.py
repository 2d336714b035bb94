"""A message is one line that a terminal can show, whatever names are in it."""

import pickle

import pytest

from pipeline.errors import LONGEST_MESSAGE, DataError, PipelineError, WorkerLostError


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no column 'a\nb'", "no column 'a b'"),
        ("\n first\r\n\tsecond\u2028third ", "first second third"),
        ("\x1b[31mred\x00", "\\x1b[31mred\\x00"),
        ("\u202eright to left, ü, 🤖", "\\u202eright to left, ü, 🤖"),
        ("\udcff", "\\udcff"),
    ],
)
def test_messages_are_one_line(said, shown):
    assert str(DataError(said)) == shown
    assert shown.isprintable()


def test_long_messages_keep_both_ends():
    text = str(PipelineError("what is wrong " + "x" * 5_000 + " what to change"))
    assert len(text) <= LONGEST_MESSAGE
    assert text.startswith("what is wrong")
    assert text.endswith("what to change")


def test_messages_survive_the_way_between_processes():
    error = pickle.loads(pickle.dumps(DataError("a\nb")))
    assert (type(error), str(error)) == (DataError, "a b")
    lost = pickle.loads(pickle.dumps(WorkerLostError("tcp://1", "gone")))
    assert (lost.worker, lost.reason, str(lost)) == ("tcp://1", "gone", "worker tcp://1 was lost: gone")
