"""Datasets many times as large as the cache: each object is fetched once an epoch, counted by the server."""

import multiprocessing
import time
from collections import Counter

import pytest
from alnair import AlnairJobDataset
from http_servers import QuietHandler, Server

torch = pytest.importorskip("torch")
from alnair import AlnairJobDataLoader  # noqa: E402

OBJECTS, SIZE, MEMORY = 800, 110_000, 8 << 20
AHEAD_ALONE = 16 << 20  # bytes, of a loop without workers


class Counting(Server):
    """An S3 server with objects of random-looking bytes, which counts GETs by key."""

    def __init__(self):
        super().__init__(Handler)
        self.gets = Counter()


class Handler(QuietHandler):
    def do_GET(self):
        if "list-type" in self.path:
            entries = "".join(
                f"<Contents><Key>{i:04d}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
                f'<ETag>"1"</ETag><Size>{SIZE}</Size></Contents>'
                for i in range(OBJECTS)
            )
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
        else:
            key = self.path.rpartition("/")[2]
            body = content(key)
            with self.server.lock:
                self.server.gets[key] += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)


def content(key):
    return key.encode() * (SIZE // 4)


@pytest.fixture
def server():
    server = Counting()
    yield server
    server.shutdown()
    server.server_close()


class Keys(AlnairJobDataset):
    def __getitem__(self, index):
        data = self.get_data(index)
        key = data[:4].decode()
        assert data == content(key)
        return key


class Unpredictable(torch.utils.data.Sampler):
    """A sampler that nothing is known of."""

    def __iter__(self):
        return iter(torch.randperm(OBJECTS).tolist())

    def __len__(self):
        return OBJECTS


# The batches that are on their way to workers are less than what may be ahead of the loop, or many times as much.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("order", [{"shuffle": True}, {"sampler": Unpredictable()}], ids=["shuffle", "sampler"])
@pytest.mark.parametrize("workers, batch", [(0, 4), (0, 64), (2, 4), (2, 64), (8, 4), (8, 64)])
@pytest.mark.parametrize("usecache", [False, True], ids=["uncached", "cached"])
def test_each_object_is_fetched_once_an_epoch(server, usecache, workers, batch, order):
    dataset = Keys(
        source="s3://large",
        endpoint_url=server.url,
        anonymous=True,
        region="us-east-1",
        usecache=usecache,
        memory_limit=MEMORY,
        disk_limit=1 << 20,
        hedging=False,
    )
    loader = AlnairJobDataLoader(dataset, batch_size=batch, num_workers=workers, collate_fn=list, **order)
    epochs = 3
    for epoch in range(1, epochs + 1):
        assert sorted(key for keys in loader for key in keys) == [f"{i:04d}" for i in range(OBJECTS)]
        ahead = (MEMORY // 16 if workers else AHEAD_ALONE) // SIZE + 1  # the beginning of the next epoch
        assert sum(server.gets.values()) <= epoch * OBJECTS + ahead
        assert max(server.gets.values()) <= epoch + 1
    assert sum(server.gets.values()) > epochs * OBJECTS * (0.5 if usecache else 0.95)  # it does not fit


def reads_elsewhere(connection, options):
    """Another process of the node, which has read one object."""
    elsewhere = Keys(**options)
    assert elsewhere[0] == "0000"
    connection.send("ready")
    connection.recv()


def test_what_passes_through_is_not_copied_into_node_memory_for_a_process_that_is_alone(server):
    options = {
        "source": "s3://large", "endpoint_url": server.url, "anonymous": True, "region": "us-east-1",
        "memory_limit": MEMORY, "disk_limit": 1 << 20, "hedging": False,
    }  # fmt: skip
    dataset = Keys(**options)
    loader = AlnairJobDataLoader(dataset, batch_size=16, shuffle=True, collate_fn=list)

    def gets_and_transit_of_an_epoch():
        before, transit = sum(server.gets.values()), 0
        for number, keys in enumerate(loader):
            assert len(keys) == 16
            if number == len(loader) // 2:
                transit = dataset._alnair.source.core.memory_usage()["transit_bytes"]
        return sum(server.gets.values()) - before, transit

    assert gets_and_transit_of_an_epoch()[1] == 0
    alone = gets_and_transit_of_an_epoch()
    assert alone[0] < OBJECTS and alone[1] == 0
    context = multiprocessing.get_context("spawn")
    connection, theirs = context.Pipe()
    process = context.Process(target=reads_elsewhere, args=(theirs, options))
    process.start()
    try:
        assert connection.recv() == "ready"
        together = gets_and_transit_of_an_epoch()
    finally:
        connection.send("done")
        process.join()
    assert together[0] <= OBJECTS + MEMORY // 16 // SIZE + 1 and together[1] > 0


def test_a_process_that_is_alone_looks_farther_ahead_than_a_small_transit_would_hold(server):
    dataset = Keys(
        source="s3://large", endpoint_url=server.url, anonymous=True, region="us-east-1", memory_limit=MEMORY, disk_limit=1 << 20,
        hedging=False,
    )  # fmt: skip
    batches = iter(AlnairJobDataLoader(dataset, batch_size=4, shuffle=True, collate_fn=list))
    next(batches)
    wanted = AHEAD_ALONE // 4 * 3 // SIZE  # it starts again once a quarter was consumed
    deadline = time.monotonic() + 30
    while sum(server.gets.values()) < wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert wanted <= sum(server.gets.values()) <= AHEAD_ALONE // SIZE + 9  # two batches, and the object that reaches the limit


def test_what_was_brought_ahead_may_be_read_in_parts(server):
    class Parts(AlnairJobDataset):
        def __getitem__(self, index):
            return b"".join(self.read(self.data[index], offset, SIZE // 10) for offset in range(0, SIZE, SIZE // 10))

    dataset = Parts(
        source="s3://large", endpoint_url=server.url, anonymous=True, region="us-east-1", memory_limit=MEMORY, disk_limit=1 << 20,
        hedging=False, usecache=False,
    )  # fmt: skip
    loader = AlnairJobDataLoader(dataset, batch_size=None, shuffle=True)
    assert sorted(data[:4].decode() for data in loader) == [f"{i:04d}" for i in range(OBJECTS)]
    assert sum(server.gets.values()) <= OBJECTS + MEMORY // 16 // SIZE + 1
