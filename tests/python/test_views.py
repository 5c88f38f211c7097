"""alnair.View: bytes without a copy."""

import io
import pickle
import warnings

import alnair
import numpy
import pytest
from alnair import AlnairJobDataset
from conftest import KEYS, content_of


@pytest.fixture
def dataset(source):
    return AlnairJobDataset(source=source)


def test_a_view_is_taken_for_its_bytes(dataset):
    view, content = dataset.load(KEYS[0], view=True), content_of(KEYS[0])
    assert type(view) is alnair.View
    assert len(view) == len(content)
    assert bytes(view) == bytes(memoryview(view)) == io.BytesIO(view).read() == content
    assert view == content
    assert content == view
    assert view != content + b"x"
    assert view != "text"
    assert bytes(view[2:9]) == content[2:9]
    assert view[0] == content[0]
    assert repr(view) == f"<alnair.View of {len(content)} bytes>"
    assert dataset.get_data(0, view=True) == content


def test_numpy_and_torch_read_it_without_a_warning(dataset):
    torch = pytest.importorskip("torch")
    view, content = dataset.load(KEYS[0], view=True), content_of(KEYS[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = torch.frombuffer(view, dtype=torch.uint8)
        array = numpy.frombuffer(view, numpy.uint8)
    assert bytes(tensor.tolist()) == array.tobytes() == content


def test_a_buffer_keeps_the_bytes_when_everything_else_is_gone(source):
    array = numpy.frombuffer(AlnairJobDataset(source=source).load(KEYS[3], view=True), numpy.uint8)
    memory = memoryview(AlnairJobDataset(source=source).load(KEYS[4], view=True))
    assert array.tobytes() == content_of(KEYS[3])
    assert bytes(memory) == content_of(KEYS[4])


def test_a_buffer_over_a_handle_keeps_the_bytes_too(source):
    torch = pytest.importorskip("torch")
    arrays = [numpy.frombuffer(AlnairJobDataset(source=source).data[key], numpy.uint8) for key in KEYS]
    tensor = torch.frombuffer(AlnairJobDataset(source=source).data[3], dtype=torch.uint8)
    assert [array.tobytes() for array in arrays] == [content_of(key) for key in KEYS]
    assert bytes(tensor.tolist()) == content_of(KEYS[3])


def test_a_write_never_reaches_the_cache_or_what_others_hold(source):
    dataset = AlnairJobDataset(source=source)
    for _ in range(3):  # from the source, then from the tiers
        view = dataset.load(KEYS[0], view=True)
        before = io.BytesIO(view).getvalue()
        array = numpy.frombuffer(view, numpy.uint8)
        assert array.flags.writeable
        array[:] = 0
        assert bytes(view) == bytes(len(view))
        assert before == content_of(KEYS[0])
        del view, array
        assert dataset.load(KEYS[0]) == content_of(KEYS[0])
        assert AlnairJobDataset(source=source).load(KEYS[0]) == content_of(KEYS[0])


def test_a_read_only_buffer_stays_valid_when_a_writable_one_is_taken_later(dataset):
    view = dataset.load(KEYS[0], view=True)
    early = memoryview(view)
    array = numpy.frombuffer(view, numpy.uint8)
    array[0] = 0
    assert bytes(early[1:]) == content_of(KEYS[0])[1:]


def test_it_pickles_as_bytes(dataset):
    copy = pickle.loads(pickle.dumps(dataset.load(KEYS[0], view=True)))
    assert type(copy) is bytes
    assert copy == content_of(KEYS[0])


def test_it_cannot_be_made_up_or_hashed(dataset):
    with pytest.raises(TypeError, match="made by reading a dataset"):
        alnair.View()
    with pytest.raises(TypeError, match="unhashable"):
        hash(dataset.load(KEYS[0], view=True))
