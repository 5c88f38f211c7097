"""alnair.Error and its kin."""

import builtins
import pickle

import alnair
import pytest

KINDS = {
    alnair.ConfigError: ValueError,
    alnair.OptionTypeError: TypeError,
    alnair.AccessError: PermissionError,
    alnair.NotFoundError: KeyError,
    alnair.ChangedError: OSError,
    alnair.SourceError: OSError,
    alnair.TimeoutError: builtins.TimeoutError,
    alnair.CacheError: OSError,
    alnair.CancelledError: RuntimeError,
    alnair.OutOfRangeError: IndexError,
    alnair.DependencyError: ImportError,
}


def test_every_error_of_the_package_is_listed_here():
    classes = {c for c in vars(alnair.errors).values() if isinstance(c, type) and issubclass(c, alnair.Error)}
    assert classes == {*KINDS, alnair.Error}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_is_of_the_built_in_kind_too(kind):
    assert issubclass(kind, alnair.Error)
    assert issubclass(kind, KINDS[kind])


@pytest.mark.parametrize("kind", [alnair.Error, *KINDS], ids=lambda kind: kind.__name__)
def test_an_error_shows_its_sentence_and_is_rebuilt_from_it(kind):
    error = kind("the object 'a/ü.png' is gone")
    assert str(error) == "the object 'a/ü.png' is gone"
    assert str(kind(str(error))) == str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert str(kind()) == ""


@pytest.mark.parametrize("kind", [alnair.Error, *KINDS], ids=lambda kind: kind.__name__)
def test_an_error_crosses_a_dataloader_worker_as_itself(kind):
    wrapper = pytest.importorskip("torch._utils").ExceptionWrapper
    try:
        raise kind("the object 'a' is gone")
    except alnair.Error:
        wrapped = pickle.loads(pickle.dumps(wrapper(where="in a worker")))
    with pytest.raises(kind, match="the object 'a' is gone"):
        wrapped.reraise()


def test_a_missing_object_is_what_callers_of_files_and_of_mappings_catch():
    assert issubclass(alnair.NotFoundError, FileNotFoundError)
    assert issubclass(alnair.NotFoundError, KeyError)
