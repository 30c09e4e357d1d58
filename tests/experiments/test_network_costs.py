"""What is counted and timed of networks, and the table that sets it beside the paper's."""

import json
import math
import re
from dataclasses import asdict, replace
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelssr_geo.errors import OutputError, ResumeError, SettingsError, UnknownNetError
from pixelssr_geo.experiments.network_cost_tables import (
    check_costs_output,
    cost_notes,
    cost_report,
    cost_table,
    paper_ratio,
    read_costs,
    write_costs,
)
from pixelssr_geo.experiments.network_costs import (
    MEASURE,
    CostCell,
    CostResult,
    TileSize,
    Timings,
    compared_networks,
    count_network,
    cpu_name,
    hardware_name,
    paper_table10,
    pass_tile,
    run_network_costs,
    time_in_turns,
    time_networks,
)
from pixelssr_geo.nets import create_net, list_nets
from pixelssr_geo.nets.scan import chosen_backend

NAMES = [spec.name for spec in list_nets()]
SMALL = TileSize(bands=2, channels=3, tile=8)


def row(
    net=MEASURE, *, ms=20.0, ratio=1.0, counts=(2_000_000, 1_500_000, 3 * 10**9, 4 * 10**9), **run
):
    told = {
        "bands": 3, "channels": 31, "tile": 128, "rounds": 5, "threads": 2, "device": "cpu",
        "hardware": "a CPU, 2 cores", "torch": "2.9", "scan_backend": "cpp",
    }  # fmt: skip
    return CostCell(net=net, **{**told, **run}), CostResult(*counts, ms, ratio)


def columns(table):
    """The table's columns, each the texts from its head down."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert set(lines.pop(1)) == {"|", "-"}
    return list(
        zip(*([c.strip() for c in line.strip("|").split(" | ")] for line in lines), strict=True)
    )


seconds = st.floats(1e-3, 1e3)
rounds_of_two = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=9)


def timings(pairs):
    mine, other = zip(*pairs, strict=True)
    return Timings({"mst++": mine, MEASURE: other})


class TestRatios:
    @settings(deadline=None)
    @given(rounds_of_two)
    def test_a_network_takes_its_own_time_once(self, pairs):
        assert timings(pairs).ratio(MEASURE) == 1

    @settings(deadline=None)
    @given(rounds_of_two, st.lists(seconds, min_size=9, max_size=9))
    def test_what_slows_a_whole_round_changes_no_ratio(self, pairs, slower):
        slowed = [(a * s, b * s) for (a, b), s in zip(pairs, slower, strict=False)]
        assert math.isclose(timings(slowed).ratio("mst++"), timings(pairs).ratio("mst++"))

    @settings(deadline=None)
    @given(rounds_of_two, st.floats(0.1, 10))
    def test_a_slower_network_has_so_much_the_larger_ratio(self, pairs, factor):
        slower = [(factor * a, b) for a, b in pairs]
        expected = factor * timings(pairs).ratio("mst++")
        assert math.isclose(timings(slower).ratio("mst++"), expected)

    @settings(deadline=None)
    @given(rounds_of_two.filter(lambda pairs: len(pairs) % 2))
    def test_of_an_odd_number_of_rounds_it_is_the_ratio_of_one(self, pairs):
        found = timings(pairs)
        assert found.ratio("mst++") in [a / b for a, b in pairs]
        assert math.isclose(found.ratio("mst++") * found.ratio(MEASURE, "mst++"), 1)

    def test_few_bad_rounds_do_not_move_it(self):
        pairs = [(2.0, 1.0), (2.0, 1.0), (2.0, 1.0), (90.0, 1.0), (2.0, 50.0)]
        found = timings(pairs)
        assert found.ratio("mst++") == 2
        assert found.median("mst++") == 2
        assert found.best("mst++") == 2


class TestTurns:
    def test_every_round_has_one_pass_of_each_after_a_warm_up(self):
        done = []
        passes = {name: lambda name=name: done.append(name) for name in "abcd"}
        found = time_in_turns(passes, 6, seed=1)
        turns = ["".join(done[k : k + 4]) for k in range(0, len(done), 4)]
        assert turns[0] == "abcd"
        assert len(turns) == 7
        assert all(sorted(turn) == list("abcd") for turn in turns)
        assert len(set(turns[1:])) > 1  # orders of their own
        assert {len(times) for times in found.seconds.values()} == {6}

    def test_the_seed_sets_the_orders(self):
        def order(seed):
            done = []
            time_in_turns({n: lambda n=n: done.append(n) for n in "abcdef"}, 4, seed=seed)
            return done

        assert order(3) == order(3) != order(4)

    def test_each_is_given_its_own_time_without_the_warm_up(self):
        now, first = [0.0], {"a": 100.0, "b": 100.0}
        takes = {"a": 1.0, "b": 4.0}

        def work(name):
            now[0] += first.pop(name, takes[name])

        found = time_in_turns(
            {"a": lambda: work("a"), "b": lambda: work("b")}, 3, clock=lambda: now[0]
        )
        assert found.seconds == {"a": (1.0,) * 3, "b": (4.0,) * 3}
        assert found.ratio("b", "a") == 4

    def test_progress_is_told(self):
        told = []
        time_in_turns({"a": list, "b": list}, 2, progress=lambda *step: told.append(step))
        assert told[:3] == [("warm-up", 0, 2), ("warm-up", 1, 2), ("warm-up", 2, 2)]
        assert told[3:] == [("rounds", 0, 2), ("rounds", 1, 2), ("rounds", 2, 2)]

    def test_no_round_is_refused(self):
        with pytest.raises(SettingsError, match="0 rounds were asked for, expected at least 1"):
            time_in_turns({"a": list}, 0)


class TestNetworks:
    def test_the_measure_is_the_first_and_each_network_there_once(self):
        assert compared_networks(None) == NAMES
        assert compared_networks(["MFSN", "msfn", "mstpp"]) == [MEASURE, "msfn", "mst++"]
        assert compared_networks(["specat", "dypro"]) == [MEASURE, "specat"]

    def test_names_that_are_none_are_refused(self):
        with pytest.raises(UnknownNetError, match="did you mean 'restormer'"):
            compared_networks(["restorer"])
        with pytest.raises(
            SettingsError, match="no network is named, expected some of dypro-mamba"
        ):
            compared_networks([])

    @pytest.mark.parametrize("size", [{"bands": 0}, {"channels": -1}, {"tile": 0}])
    def test_a_tile_of_nothing_is_refused(self, size):
        with pytest.raises(SettingsError, match="were asked for, expected at least 1 of each"):
            TileSize(**size)

    def test_counting_draws_no_numbers_and_leaves_networks_working(self):
        before = torch.get_rng_state()
        counts = count_network(MEASURE, SMALL)
        assert torch.equal(torch.get_rng_state(), before)
        net = create_net(MEASURE, bands=2, channels=3)
        assert counts.parameters == sum(p.numel() for p in net.parameters())
        assert net(torch.zeros(1, 2, 8, 8)).device.type == "cpu"

    def test_threads_are_what_they_were(self, monkeypatch):
        before, meanwhile = torch.get_num_threads(), []

        def noting(net, tile):
            meanwhile.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))
            assert tile.shape == (1, 2, 8, 8)
            assert not net.training

        monkeypatch.setattr("pixelssr_geo.experiments.network_costs.pass_tile", noting)
        time_networks(["mst++"], SMALL, rounds=1, threads=before + 1)
        assert meanwhile == [(before + 1, True)] * 2
        assert torch.get_num_threads() == before

    def test_a_pass_on_a_gpu_ends_with_its_work(self, monkeypatch):
        steps = []
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: steps.append(device))
        pass_tile(lambda tile: steps.append("pass"), SimpleNamespace(is_cuda=True, device="cuda:1"))
        assert steps == ["pass", "cuda:1"]
        pass_tile(lambda tile: steps.append("pass"), torch.zeros(1))
        assert steps[2:] == ["pass"]

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_they_are_measured_on_a_gpu(self):
        device = torch.device("cuda")
        rows = run_network_costs([MEASURE, "mst++"], SMALL, rounds=2, device=device)
        (cell, *_) = rows
        assert cell.device == "cuda"
        assert cell.hardware == torch.cuda.get_device_name()
        net = create_net("restormer", bands=3, channels=31).eval().to(device)
        with torch.inference_mode():
            pass_tile(net, torch.rand(1, 3, 128, 128, device=device))
            assert torch.cuda.current_stream().query()  # nothing is left to do

    def test_a_run_says_what_it_measured_and_where(self):
        rows = run_network_costs([MEASURE, "mst++"], SMALL, rounds=2, threads=1)
        assert [cell.net for cell in rows] == [MEASURE, "mst++"]
        for cell, result in rows.items():
            counted = asdict(count_network(cell.net, SMALL))
            assert counted.items() <= asdict(result).items()
            assert (cell.size, cell.rounds, cell.threads) == (SMALL, 2, 1)
            assert (cell.device, cell.torch) == ("cpu", torch.__version__)
            assert cell.hardware == hardware_name(torch.device("cpu"))
            assert cell.scan_backend == chosen_backend()
            assert result.median_ms > 0
        assert rows[next(iter(rows))].ratio == 1

    def test_the_cpu_is_named_as_far_as_it_is_known(self, tmp_path):
        info = tmp_path / "cpuinfo"
        info.write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz: fast\n" * 2)
        assert cpu_name(info) == "Some CPU @ 3 GHz: fast"
        info.write_text("processor\t: 0\nBogoMIPS\t: 50\n")
        assert cpu_name(info) == cpu_name(tmp_path / "none") != ""
        assert re.fullmatch(r".+, (1 core|\d+ cores)", hardware_name(torch.device("cpu")))


@pytest.fixture(scope="module")
def counted():
    """All networks at the paper's size, with times that are none."""
    times = count(1)
    rows = {}
    for name in NAMES:
        cell, result = row(name, ms=float(next(times)), ratio=2.0)
        rows[cell] = replace(result, **asdict(count_network(name, TileSize())))
    return rows


def printed(value, like):
    """A count to as many digits as the paper prints of it."""
    return f"{value:.{len(like.partition('.')[2])}f}"


class TestTable:
    def test_the_columns_stand_beside_the_papers(self, counted):
        found = columns(cost_table(counted))
        assert [column[0] for column in found] == [
            "network", "parameters M", "profiled M", "paper", "all G", "profiled G", "paper", "ms",
            "paper", "ms / dypro-mamba", "paper",
        ]  # fmt: skip
        names, all_m, profiled_m, paper_m, _, profiled_g, paper_g, *_ = (c[1:] for c in found)
        assert [name.strip("`") for name in names] == NAMES == list(paper_table10())
        # The table's own notes say of which networks not.
        ours = [all_m[0], *profiled_m[1:]]
        assert [printed(float(a), b) for a, b in zip(ours, paper_m, strict=True)] == list(paper_m)
        told = dict(zip(NAMES, zip(profiled_g, paper_g, strict=True), strict=True))
        (_, paper_retinex), (_, paper_msfn) = told.pop("retinex-mamba"), told.pop("msfn")
        assert all(printed(float(mine), paper) == paper for mine, paper in told.values())
        retinex = count_network("retinex-mamba", TileSize()).profiled_macs
        assert printed(retinex / 2**30, paper_retinex) == paper_retinex
        larger = count_network("msfn", TileSize(tile=256)).profiled_macs
        assert printed(larger / 1e9, paper_msfn) == paper_msfn
        assert {"msfn", "retinex-mamba", MEASURE} == {
            note.split("`")[1] for note in cost_notes(counted)[1:]
        }

    def test_times_and_their_ratios_stand_beside_the_papers(self, counted):
        ms, paper_ms, ratio, paper_ratios = (c[1:] for c in columns(cost_table(counted))[-4:])
        assert ms == tuple(f"{k:.1f}" for k in range(1, 9))
        assert paper_ms == tuple(f"{row.time_ms:g}" for row in paper_table10().values())
        assert ratio == ("2.00",) * 8
        expected = [float(time) / float(paper_ms[0]) for time in paper_ms]
        assert paper_ratios == tuple(f"{value:.2f}" for value in expected)
        assert paper_ratio(paper_table10()[MEASURE]) == 1

    @pytest.mark.parametrize("other", [{"bands": 4}, {"channels": 30}, {"tile": 64}])
    def test_the_paper_says_nothing_of_other_sizes(self, other):
        rows = dict([row(**other), row("msfn", **other)])
        heads = [column[0] for column in columns(cost_table(rows))]
        assert "paper" not in heads
        assert len(heads) == 7
        assert cost_notes(rows) == []
        assert cost_table(rows).endswith("|")
        assert all(net["paper"] is None for net in cost_report(rows)["networks"])

    def test_only_networks_that_are_there_are_noted(self):
        assert not any("msfn" in note for note in cost_notes(dict([row(), row("mst++")])))

    def test_a_network_that_the_paper_lacks_has_its_own_figures(self):
        found = columns(cost_table(dict([row(), row("another")])))
        last = {(k, column[0]): column[2] for k, column in enumerate(found)}
        assert {text for (_, head), text in last.items() if head == "paper"} == {""}
        assert last[7, "ms"] == "20.0"

    def test_the_first_line_says_how_it_was_measured(self):
        (line, *_) = cost_table(dict([row(rounds=1, threads=1, device="cuda")])).splitlines()
        assert line == (
            "3 bands to 31 channels, 128 x 128 pixels, float32. Times: medians of 1 round, cuda (a "
            "CPU, 2 cores), 1 thread, torch 2.9, scan cpp."
        )

    def test_the_report_has_all_of_it(self, counted):
        report = json.loads(json.dumps(cost_report(counted)))
        assert (report["tile"], report["hardware"]) == (128, "a CPU, 2 cores")
        assert [net["net"] for net in report["networks"]] == NAMES
        msfn = report["networks"][NAMES.index("msfn")]
        assert msfn["profiled_macs"] == count_network("msfn", TileSize()).profiled_macs
        paper = {"parameters_m": 2.47, "flops_g": 32.67, "time_ms": 68.24, "ratio": 1.9425}
        assert msfn["paper"] == paper
        assert len(report["notes"]) == 4


class TestFile:
    @settings(deadline=None, max_examples=30)
    @given(
        results=st.lists(
            st.builds(CostResult, *[st.integers(1, 10**15)] * 4, seconds, seconds),
            min_size=1,
            max_size=8,
        ),
        hardware=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1)
        | st.just('a "b", c'),
    )
    def test_what_was_written_is_read(self, tmp_path_factory, results, hardware):
        path = tmp_path_factory.mktemp("costs") / "costs.csv"
        cells = [row(f"net{k}", hardware=hardware)[0] for k in range(len(results))]
        rows = dict(zip(cells, results, strict=True))
        write_costs(rows, path)
        assert list(read_costs(path).items()) == list(rows.items())

    def test_an_earlier_run_is_replaced_and_nothing_is_left_beside(self, tmp_path):
        path = tmp_path / "costs.csv"
        write_costs(dict([row(), row("mst++")]), path)
        check_costs_output(path)
        write_costs(dict([row(rounds=7)]), path)
        assert [cell.rounds for cell in read_costs(path)] == [7]
        assert list(tmp_path.iterdir()) == [path]

    def test_what_fails_leaves_the_earlier_run(self, tmp_path):
        path = tmp_path / "costs.csv"
        write_costs(dict([row()]), path)
        broken = {row("mst++")[0]: None}
        with pytest.raises(TypeError):
            write_costs(broken, path)
        assert list(read_costs(path).items()) == [row()]
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("spoil", "told"),
        [
            (lambda text: text.replace("median_ms", "ms"), "has the columns net, bands"),
            (lambda text: text.replace("20.0", "fast"), r"line 2 of .*\(could not convert"),
            (lambda text: text.replace("20.0", "nan"), "line 2 of .*nan is no positive number"),
            (lambda text: text.replace(",128,", ",-1,"), "line 2 of .*-1 is no positive number"),
            (lambda text: text.replace(",cpp", ""), "line 2 of .* values instead of"),
            (lambda text: text[:-1], "ends within one, the costs"),
            (lambda text: text.splitlines()[0] + "\n", "ends within one, the costs"),
            (lambda text: "", "ends within one, the costs"),
            (lambda text: text.replace("20.0", "\x00"), "line 2 of"),
        ],
    )
    def test_a_broken_file_is_refused(self, tmp_path, spoil, told):
        path = tmp_path / "costs.csv"
        write_costs(dict([row(), row("mst++", ms=30.0)]), path)
        path.write_text(spoil(path.read_text()))
        with pytest.raises(ResumeError, match=told):
            read_costs(path)

    def test_lines_of_several_runs_are_refused(self, tmp_path):
        path = tmp_path / "costs.csv"
        write_costs(dict([row(), row("mst++", threads=1)]), path)
        with pytest.raises(ResumeError, match="holds lines of 2 runs, expected those of one"):
            read_costs(path)

    def test_no_file_is_an_error(self, tmp_path):
        with pytest.raises(SettingsError, match=r"there is no file '.*none\.csv'"):
            read_costs(tmp_path / "none.csv")

    def test_a_place_that_cannot_be_is_refused_beforehand(self, tmp_path):
        with pytest.raises(OutputError, match="there is no folder"):
            check_costs_output(tmp_path / "none" / "costs.csv")
        other = tmp_path / "other.csv"
        other.write_text("scene,psnr\n")
        with pytest.raises(ResumeError, match="has the columns scene, psnr"):
            check_costs_output(other)
        assert other.read_text() == "scene,psnr\n"
        other.write_text("something else")
        with pytest.raises(ResumeError, match="ends within one, the costs"):
            check_costs_output(other)
        other.write_text("")
        check_costs_output(other)
