"""Fashion-MNIST, as Debian's package dataset-fashion-mnist brings it, as pictures with the class in their key."""
import gzip
import struct
from pathlib import Path

from PIL import Image

HOME = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
PARTS = {"train": ("train", 60_000), "test": ("t10k", 10_000)}  # folder: name of the files, images in them


def read_idx(path: Path) -> tuple:
    """The dimensions and the bytes of a file in MNIST's format."""
    content = gzip.decompress(path.read_bytes())
    dimensions = struct.unpack_from(f">{content[3]}I", content, 4)
    return dimensions, memoryview(content)[4 + 4 * len(dimensions):]


def count_images(share: float) -> int:
    return sum(round(count * share) for _, count in PARTS.values())


def images(share: float):
    """That share of each part: pairs of a key, train/dress/00001.png, and its picture."""
    for part, (name, count) in PARTS.items():
        (_, height, width), pixels = read_idx(HOME / f"{name}-images-idx3-ubyte.gz")
        _, labels = read_idx(HOME / f"{name}-labels-idx1-ubyte.gz")
        for number in range(round(count * share)):
            image = Image.frombuffer("L", (width, height), pixels[number * height * width:(number + 1) * height * width])
            yield f"{part}/{CLASSES[labels[number]]}/{number:05d}.png", image
