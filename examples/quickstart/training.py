"""The training loop: what changes for a script that read an ImageFolder is the dataset's class and the loader's name."""
import io
import time
from pathlib import Path

import numpy
import torch
from PIL import Image, UnidentifiedImageError
from torch import nn

import alnair
from alnair import AlnairJobDataset, AlnairJobDataLoader

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
TEST_FOLDERS = ("test", "val", "valid", "validation")


def class_of(key: str) -> str:
    """The folder above the object: "train/dress/00001.png" shows a dress."""
    return key.rsplit("/", 2)[-2] if "/" in key else ""


def for_tests(images: list) -> list:
    """For each image, whether it is for the test: folders above the classes' say so; where none does, every seventh is."""
    named = [any(name in TEST_FOLDERS for name in key.split("/")[:-2]) for key in images]
    return named if any(named) and not all(named) else [position % 7 == 6 for position in range(len(images))]


class Images(AlnairJobDataset):
    """The images of one part of a source, "train" or "test", as tensors, with the numbers of their classes."""

    small = False  # grey ones of 28 x 28, as Fashion-MNIST's; others are made coloured ones of 64 x 64

    def __init__(self, part: str, **options):
        self.part = part
        super().__init__(**options)

    def __convert__(self):
        images = [key for key in self.keys if key.lower().endswith(IMAGE_ENDINGS)]
        self.classes = sorted({class_of(key) for key in images})
        number = {name: i for i, name in enumerate(self.classes)}
        chosen = [key for key, for_test in zip(images, for_tests(images)) if for_test == (self.part == "test")]
        return [self.data[key] for key in chosen], [number[class_of(key)] for key in chosen]

    def __getitem__(self, index):
        content = self.get_data(index)
        try:
            with Image.open(io.BytesIO(content)) as image:
                image = image.convert("L").resize((28, 28)) if self.small else image.convert("RGB").resize((64, 64))
        except Exception as error:  # Pillow raises all kinds
            raise OSError(f"{self.data[index].key} cannot be read as an image: {error}") from None
        pixels = numpy.asarray(image, dtype=numpy.float32) / 255 - 0.5
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1).copy()), self.get_target(index)

    def __len__(self):
        return len(self.data)


def small_cnn(channels: int, classes: int) -> nn.Module:
    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))

    return nn.Sequential(block(channels, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(64, classes))


class Epoch:
    """Where the bytes of an epoch came from, and how long the loop waited for them."""

    def __init__(self, progress, what: str, before: dict):
        self._before = before
        self._progress, self._what = progress, what
        self.start, self.waited = time.perf_counter(), 0.0

    def batches(self, loader: AlnairJobDataLoader):
        total = len(loader.dataset)
        done, asked = 0, time.perf_counter()
        for images, labels in loader:
            self.waited += time.perf_counter() - asked
            yield images, labels
            done += len(labels)
            self._progress(self._what, done, total)
            asked = time.perf_counter()

    def end(self) -> dict:
        self._after = alnair.stats()
        return self._after

    def gained(self, name: str) -> int:
        return self._after[name] - self._before[name]


def train(where: dict, cache_dir: Path, epochs: int, workers: int, progress) -> None:
    torch.manual_seed(0)
    counters = alnair.stats()
    training, test = (Images(part, cache_dir=str(cache_dir), **where) for part in ("train", "test"))
    print(f"{len(training):,} images to train on, {len(test):,} to test with, {len(training.classes)} classes.")
    if not len(training) or not len(test):
        raise SystemExit(f"There are not enough images in {where['source']} for training and test: seven are.")

    try:
        with Image.open(io.BytesIO(training.get_data(0))) as image:
            training.small = test.small = image.mode == "L" and image.size == (28, 28)
    except UnidentifiedImageError:
        pass  # training[0] names it

    def loader(dataset: Images, shuffle: bool) -> AlnairJobDataLoader:
        return AlnairJobDataLoader(dataset, batch_size=256, shuffle=shuffle, num_workers=workers)

    model = small_cnn(training[0][0].shape[0], len(training.classes))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    requests = 0
    for number in range(1, epochs + 1):
        epoch = Epoch(progress, f"epoch {number}", before=counters)
        model.train()
        for images, labels in epoch.batches(loader(training, shuffle=True)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        seconds = time.perf_counter() - epoch.start
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum())
                        for images, labels in epoch.batches(loader(test, shuffle=False)))
        progress.clear()
        counters = epoch.end()
        requests += epoch.gained("s3_get_object")
        print(f"epoch {number}: {len(training) / seconds:,.0f} samples/s, accuracy {right / len(test):.1%}, "
              f"{epoch.gained('s3_get_object'):,} S3 GETs; {sources_of(epoch)}; "
              f"the loop waited {epoch.waited:.2f} s for data", flush=True)
    if requests == 0:
        print("This run made 0 S3 GETs: all of it was in the cache.")


def sources_of(epoch: Epoch) -> str:
    parts = {"S3": epoch.gained("source_hit_bytes"), "disk": epoch.gained("disk_hit_bytes")}
    parts["memory"] = max(0, epoch.gained("read_bytes") - sum(parts.values()))  # what is read ahead is read from memory
    return "bytes from " + ", ".join(f"{name} {amount(size)}" for name, size in parts.items())


def amount(size: int) -> str:
    return f"{size / 1e6:.{3 if 0 < size < 1e6 else 1}f} MB"
