"""How each competitor of end_to_end reads the images: a conversion where it needs one, and a DataLoader over samples.

A competitor gets the endpoint and an empty folder of its own for its cache. What it yields for an image is `take(content)`.
"""

import os
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

REGION = "us-east-1"


def common(workers: int) -> dict:
    return {"num_workers": workers, "persistent_workers": workers > 0}


# No conversion.


def alnair(endpoint, cache, take, batch_size, workers):
    from alnair import AlnairJobDataLoader, AlnairJobDataset

    class Images(AlnairJobDataset):
        def __getitem__(self, index):
            return take(self.get_data(index, view=True))

    os.environ.update(ALNAIR_CACHE_DIR=str(cache / "disk"), ALNAIR_MEMORY_DIR=os.environ["BENCH_MEMORY"])
    dataset = Images(source="s3://raw", endpoint_url=endpoint, region=REGION)
    return AlnairJobDataLoader(dataset, batch_size, shuffle=True, **common(workers))


class Files(Dataset):
    def __init__(self, folder, take):
        self.paths, self.take = sorted(map(str, Path(folder).iterdir())), take

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with open(self.paths[index], "rb") as file:
            return self.take(file.read())


def local_files(endpoint, cache, take, batch_size, workers):
    return DataLoader(Files(os.environ["BENCH_RAW"], take), batch_size, shuffle=True, **common(workers))


class Nothing(Files):
    def __getitem__(self, index):
        return 0


def nothing(endpoint, cache, take, batch_size, workers):
    return DataLoader(Nothing(os.environ["BENCH_RAW"], take), batch_size, shuffle=True, **common(workers))


def s3torchconnector(endpoint, cache, take, batch_size, workers):
    from s3torchconnector import S3ClientConfig, S3MapDataset

    dataset = S3MapDataset.from_prefix(
        "s3://raw/", region=REGION, endpoint=endpoint, transform=lambda item: take(item.read()),
        s3client_config=S3ClientConfig(force_path_style=True))  # fmt: skip
    return DataLoader(dataset, batch_size, shuffle=True, **common(workers))


def let_litdata_use_plain_http():
    """Its client for large objects takes no setting for that."""
    from litdata.streaming import downloader

    downloader._OBSTORE_CLIENT_OPTIONS = {**downloader._OBSTORE_CLIENT_OPTIONS, "allow_http": True}


def litdata_raw(endpoint, cache, take, batch_size, workers):
    from litdata import StreamingRawDataset

    let_litdata_use_plain_http()
    dataset = StreamingRawDataset(
        input_dir="s3://raw/", cache_dir=str(cache), cache_files=True, transform=take, storage_options={"endpoint_url": endpoint})  # fmt: skip
    return DataLoader(dataset, batch_size, shuffle=True, **common(workers))


# Conversions: from a folder of images to a bucket's folder.


def make_wds(raw, out):
    import webdataset

    with webdataset.ShardWriter(str(out / "%05d.tar"), maxsize=64 << 20, verbose=0) as writer:
        for path in sorted(raw.iterdir()):
            writer.write({"__key__": path.stem, "jpg": path.read_bytes()})


def wds(endpoint, cache, take, batch_size, workers):
    import webdataset

    urls = [f"{endpoint}/wds/{path.name}" for path in sorted(Path(os.environ["BENCH_RAW"]).parent.joinpath("wds").glob("*.tar"))]
    shards = [f"pipe:curl -s -f --retry 5 --retry-all-errors {url}" for url in urls]
    dataset = webdataset.WebDataset(shards, shardshuffle=100, cache_dir=str(cache), empty_check=False).shuffle(500).map(lambda s: take(s["jpg"]))
    return DataLoader(dataset, batch_size, **common(workers))


def make_opt(raw, out):
    from litdata import optimize

    # Four chunks of equally many images: a chunk that two workers share is not mapped, but read whole for each image.
    paths = [str(path) for path in sorted(raw.iterdir())]
    optimize(fn=read_image, inputs=paths, output_dir=str(out), chunk_size=-(-len(paths) // 4), num_workers=1)


def read_image(path):
    return {"jpg": Path(path).read_bytes()}


def litdata_optimised(endpoint, cache, take, batch_size, workers):
    from litdata import StreamingDataLoader, StreamingDataset

    let_litdata_use_plain_http()
    # batch_decode: "auto" takes bytes for text, and reads 256 items to get one; 1 is what it takes for images.
    dataset = StreamingDataset(
        "s3://opt/", cache_dir=str(cache), shuffle=True, transform=lambda item: take(item["jpg"]), batch_decode=1, storage_options={"endpoint_url": endpoint})  # fmt: skip
    return StreamingDataLoader(dataset, batch_size=batch_size, **common(workers))


def make_mds(raw, out):
    from streaming import MDSWriter

    with MDSWriter(out=str(out), columns={"jpg": "bytes"}, size_limit=64 << 20) as writer:
        for path in sorted(raw.iterdir()):
            writer.write({"jpg": path.read_bytes()})


def mosaic(endpoint, cache, take, batch_size, workers):
    from streaming import StreamingDataset

    os.environ["S3_ENDPOINT_URL"] = endpoint

    class Images(StreamingDataset):
        def __getitem__(self, index):
            return take(super().__getitem__(index)["jpg"])

    # predownload: every shard at once; the default is 8 batches ahead.
    dataset = Images(remote="s3://mds", local=str(cache), shuffle=True, batch_size=batch_size, predownload=1 << 20)
    return DataLoader(dataset, batch_size, **common(workers))


CONVERSIONS = {"wds": make_wds, "opt": make_opt, "mds": make_mds}
# name: (how it reads, the conversion that it needs)
COMPETITORS = {
    "alnair": (alnair, None),
    "local files": (local_files, None),
    "nothing to read": (nothing, None),
    "s3torchconnector": (s3torchconnector, None),
    "LitData raw": (litdata_raw, None),
    "LitData optimised": (litdata_optimised, "opt"),
    "MosaicML Streaming": (mosaic, "mds"),
    "WebDataset": (wds, "wds"),
}
