"""Messages and progress."""

import io
import logging
import os
import subprocess
import sys

import alnair
import pytest
from alnair import AlnairJobDataset
from alnair._progress import Progress, speaks


def test_a_warning_reaches_pythons_logger(source, caplog):
    with caplog.at_level(logging.WARNING, logger="alnair"):
        AlnairJobDataset(["trai"], source=source)
    assert [record.name for record in caplog.records] == ["alnair"]
    assert "trai" in caplog.text


def test_it_is_quiet_by_default_and_alnair_log_says_more(source):
    code = f"from alnair import AlnairJobDataset; d = AlnairJobDataset(source={source!r}); d[0]"

    def errors(**environment):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment})
        assert result.returncode == 0, result.stderr
        return result.stderr

    assert errors() == ""
    assert errors(ALNAIR_LOG="off") == ""
    assert all(line.startswith("alnair: ") for line in errors(ALNAIR_LOG="debug").splitlines())


def test_stats_are_counts_by_name(source):
    before = alnair.stats()
    dataset = AlnairJobDataset(source=source)
    dataset.__getitems__([0, 1, 2])
    after = alnair.stats()
    assert after["reads"] - before["reads"] == 3
    assert all(isinstance(value, int) for value in after.values())
    assert "s3_get_object" in after


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress_of(stream, **arguments):
    now = [0.0]
    progress = Progress("Listing s3://pets", stream=stream, clock=lambda: now[0], **arguments)
    with progress:
        for now[0] in (0.5, 1.9, 2.0, 2.05, 2.2, 20.0, 33.0):
            progress.update(int(now[0] * 1000), int(now[0] * 1e6), 40_000)
    return stream.getvalue()


def test_progress_is_a_bar_on_a_terminal_after_two_seconds():
    shown = progress_of(Terminal()).split("\r")
    assert shown[1] == "Listing s3://pets: [#...................] 2,000 of 40,000 objects, 2.0 MB"
    assert len([line for line in shown if "objects" in line]) == 4
    assert shown[-2].strip() == shown[-1] == ""  # wiped out at the end


def test_elsewhere_it_is_a_line_each_half_minute():
    assert progress_of(io.StringIO()).splitlines() == [
        "Listing s3://pets: [#...................] 2,000 of 40,000 objects, 2.0 MB",
        "Listing s3://pets: [################....] 33,000 of 40,000 objects, 33.0 MB",
    ]


def test_it_can_be_turned_off_and_only_the_first_local_rank_shows_it(monkeypatch):
    assert progress_of(Terminal(), enabled=False) == ""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert progress_of(Terminal()) == ""


@pytest.mark.parametrize("name", ["LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"])
def test_launchers_name_the_local_rank_differently(name):
    assert speaks({})
    assert speaks({name: "0"})
    assert not speaks({name: "3"})


def test_a_notebook_redraws_its_line():
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    assert len(progress_of(notebook()).split("\r")) > 4


def test_a_wait_shows_where_a_line_can_be_redrawn_and_goes_when_it_is_over():
    for stream in Terminal(), io.StringIO():
        now = [0.0]
        progress = Progress("Waiting for s3://pets", stream=stream, clock=lambda: now[0])
        for now[0] in (2.5, 2.55, 3.4):
            progress.waited(now[0])
        progress.waited(None)
        shown = stream.getvalue().split("\r")
        if isinstance(stream, Terminal):
            assert [text.strip() for text in shown] == ["", "Waiting for s3://pets: 2 s", "Waiting for s3://pets: 3 s", "", ""]
        else:
            assert shown == [""]  # the log says it


def test_stats_are_a_table_in_a_notebook():
    shown = alnair.stats()._repr_html_()
    assert shown.startswith("<table>")
    assert "more are 0" in shown


@pytest.mark.parametrize("attached", [False, True])
def test_stalls_of_each_epoch_by_cause(source, attached):
    torch = pytest.importorskip("torch")
    dataset, arguments = alnair.AlnairJobDataset(source=source), {"batch_size": 5, "collate_fn": list}
    if attached:
        loader = alnair.attach(torch.utils.data.DataLoader(dataset, **arguments), lookahead=0)
    else:
        loader = alnair.AlnairJobDataLoader(dataset, **arguments, lookahead=0)
    known = len(alnair.stalls())
    for _ in range(2):
        assert len(list(loader)) == 8
    first, second = alnair.stalls()[-2:]
    assert len(alnair.stalls()) == min(known + 2, 100)
    assert 0 < first["source"] <= first["seconds"]
    assert second["source"] == second["slower tiers"] == 0
    assert second["node memory"] > 0


def test_a_picture_of_stalls_or_what_it_needs(source):
    pytest.importorskip("torch")
    list(alnair.AlnairJobDataLoader(alnair.AlnairJobDataset(source=source), batch_size=5, collate_fn=list))
    try:
        import matplotlib
    except ImportError:
        with pytest.raises(alnair.DependencyError, match="plot_stalls.. needs matplotlib"):
            alnair.plot_stalls()
        return
    matplotlib.use("Agg")
    axes = alnair.plot_stalls(-1)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["source", "slower tiers", "node memory"]
    assert sum(bar.get_height() for bar in axes.patches) > 0
    with pytest.raises(IndexError, match="epoch 5000 has begun"):
        alnair.plot_stalls(5000)
