"""Scripts in the shape of those written for the original K-V-Store run unchanged."""

import io
import pickle

import pytest
from alnair import AlnairJobDataset as OurDataset
from AlnairJob import AlnairJobDataset
from conftest import content_of


class ImageFolder(AlnairJobDataset):
    """As users wrote them: classes from the keys, a transform set after the base class is initialised."""

    def __init__(self, keys, transform=None):
        super().__init__(keys)
        self.transform = transform

    def find_classes(self, keys):
        by_class = {}
        for key in keys:
            by_class.setdefault(key.split("/")[1], []).append(key)
        return by_class, {name: number for number, name in enumerate(sorted(by_class))}

    def __convert__(self):
        samples, targets = [], []
        by_class, self.class_to_idx = self.find_classes(self.keys)
        for name in self.class_to_idx:
            for key in by_class[name]:
                samples.append(self.data[key])
                targets.append(self.class_to_idx[name])
        return samples, targets

    def __getitem__(self, index):
        image, target = self.get_data(index), self.get_target(index)
        with io.BytesIO(image) as stream:
            image = stream.read()
        return (image if self.transform is None else self.transform(image)), target

    def __len__(self):
        return len(self.data)


class Older(AlnairJobDataset):
    def __preprocess__(self):
        keys = list(self.data.keys())
        return [self.data[key] for key in sorted(keys, reverse=True)], [len(key) for key in keys]

    def __getitem__(self, index):
        return self.get_data(index), self.targets[index]

    def __len__(self):
        return len(self.targets)


@pytest.fixture
def environment(source, monkeypatch):
    monkeypatch.setenv("ALNAIR_SOURCE", source)


def lower(text):
    return text.lower()


def test_it_is_the_same_class():
    assert AlnairJobDataset is OurDataset


@pytest.mark.parametrize("lazy", ["true", "false"])
def test_an_image_folder(environment, monkeypatch, lazy):
    monkeypatch.setenv("ALNAIR_LAZYLOADING", lazy)
    dataset = ImageFolder(["train"], transform=lower)
    assert dataset.class_to_idx == {"cat": 0, "dog": 1}
    assert len(dataset) == 20
    assert dataset[0] == (content_of("train/cat/000.txt").lower(), 0)
    assert dataset[19] == (content_of("train/dog/009.txt").lower(), 1)
    assert pickle.loads(pickle.dumps(dataset))[19] == dataset[19]


def test_an_older_script(environment):
    dataset = Older(["test"])
    assert len(dataset) == 20
    assert dataset[0][0] == content_of("test/dog/009.txt")


@pytest.mark.parametrize("workers", [0, 2])
def test_its_loader_takes_positional_arguments_and_is_its_own_iterator(environment, workers):
    torch = pytest.importorskip("torch")
    from AlnairJob import AlnairJobDataLoader

    torch.manual_seed(1)
    loader = AlnairJobDataLoader(ImageFolder(["train"]), 8, True, None, None, workers)
    for _ in range(2):  # epochs
        images, targets = next(loader)
        assert (len(images), len(targets)) == (8, 8)
        assert [len(next(loader)[0]), len(next(loader)[0])] == [8, 4]
        with pytest.raises(StopIteration):
            next(loader)


def test_a_loop_over_windows(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from AlnairJob import AlnairJobDataLoader

    (tmp_path / "large" / "x").mkdir(parents=True)
    for number in range(7):
        (tmp_path / "large" / "x" / f"{number}.bin").write_bytes(bytes([65 + number]) * 400_000)
    monkeypatch.setenv("ALNAIR_SOURCE", f"file://{tmp_path}/large")
    monkeypatch.setenv("ALNAIR_LAZYLOADING", "false")
    monkeypatch.setenv("ALNAIR_MAXMEMORY", "1")
    dataset = ImageFolder(["x"], transform=lambda image: image[:1])
    assert len(dataset.chunks) == 4
    loader = AlnairJobDataLoader(dataset, batch_size=1, shuffle=True, collate_fn=list)
    for _ in range(2):
        assert sorted(batch[0][0] for batch in loader) == [bytes([65 + number]) for number in range(7)]
