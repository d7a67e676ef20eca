"""The openb traces: read as they are, arriving as published, placed without a look ahead."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from headrace.core.errors import HeadraceError
from headrace.core.fleet import I64
from headrace.core.scheduling.classic import BestFit, Fgd, FirstFit
from headrace.core.scheduling.rules import NodeRule
from headrace.core.scheduling.shapes import Demand, NodeView, Shape
from headrace.core.scheduling.waste import Waste
from headrace.replay.board import Board, board_replay
from headrace.replay.openb import (
    Cluster,
    arrivals,
    check_demand,
    read_nodes,
    read_pods,
    replay,
    typical,
    until_full,
)

NODES = """sn,cpu_milli,memory_mib,gpu,model
n-2,8000,100,1,P100
n-1,96000,1000,8,G2
n-3,32000,500,0,
n-0,96000,1000,8,G2
"""
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec
p-0,12000,16,1,1000,
p-1,6000,12,1,460,P100|G2
p-2,4000,1,0,0,
p-3,64000,100,8,1000,G2
p-4,6000,12,1,460,G2|P100
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    path = tmp_path / "nodes.csv"
    path.write_text(NODES)
    return read_nodes(path)


@pytest.fixture
def pods(tmp_path: Path) -> tuple[Shape, ...]:
    path = tmp_path / "pods.csv"
    path.write_text(PODS)
    return read_pods(path)


def test_nodes_come_in_order_of_name_and_without_those_that_have_no_gpu(cluster: Cluster) -> None:
    """Ties go to the first, and so the order is part of the result."""
    assert cluster.names == ("n-0", "n-1", "n-2")
    assert [cluster.hardware[kind].accelerator for kind in cluster.kind] == ["G2", "G2", "P100"]
    assert cluster.milli == 17_000


def test_pods_are_read_with_and_without_their_models(tmp_path: Path, pods: tuple[Shape, ...]) -> None:
    """Models in any order are the same shape; a list without the column takes every model."""
    assert pods[0] == Shape(1, 1000, 12_000, 16)
    assert pods[1] == pods[4] == Shape(1, 460, 6_000, 12, ("G2", "P100"))
    assert pods[2].milli == 0
    assert pods[3].milli == 8_000
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(line.rsplit(",", 1)[0] for line in PODS.splitlines()))
    assert [pod.models for pod in read_pods(bare)] == [()] * 5


def test_another_file_is_told_by_the_columns_that_it_lacks(tmp_path: Path) -> None:
    """The message names file and columns."""
    path = tmp_path / "jobs.csv"
    path.write_text("id,gpus\n1,2\n")
    with pytest.raises(
        HeadraceError, match=r"jobs\.csv lacks the columns sn, cpu_milli, memory_mib, gpu, model"
    ):
        read_nodes(path)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "nodes.csv: it has no rows below its header. Give a node or pod list"),
        ("n-1,8000,100,two,G2\n", "nodes.csv:2: gpu is 'two', not a number. Correct the line"),
        ("n-1,8000,100,1,G2\nn-2,8000\n", "nodes.csv:3: it has 2 fields, and the header 5."),
        ("n-1,8000,100,0,\n", "nodes.csv: no node in it has a GPU."),
        ("n-1,8000,100,99,G2\n", "nodes.csv:2: gpu is '99', not from 0 to 64."),
        ("n-1,8000,1e20,1,G2\n", "nodes.csv:2: memory_mib is '1e20', not from 0 to 1,000,000,000."),
        ("n-1,-8000,100,1,G2\n", "nodes.csv:2: cpu_milli is '-8000', not from 0"),
        ("n-1,nan,100,1,G2\n", "nodes.csv:2: cpu_milli is 'nan', not from 0"),
        ("n-1,8000,100,1.5,G2\n", "nodes.csv:2: gpu is '1.5', not a whole number."),
        ('n-1,8000,100,1,"G2' + "x" * 200_000, "nodes.csv:2: it is no CSV: field larger than"),
    ],
)
def test_a_bad_list_of_nodes_is_told_by_its_line(tmp_path: Path, rows: str, said: str) -> None:
    """File, line, column, and what to do."""
    path = tmp_path / "nodes.csv"
    path.write_text(f"sn,cpu_milli,memory_mib,gpu,model\n{rows}")
    with pytest.raises(HeadraceError) as caught:
        read_nodes(path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("-1,1000", "num_gpu is '-1', not from 0 to 64."),
        ("1,0", "gpu_milli is '0', not from 1 to 1,000."),
        ("1,1500", "gpu_milli is '1500', not from 1 to 1,000."),
        ("2,500", "gpu_milli is 500 for 2 GPUs: of several each is had whole."),
        ("1,half", "gpu_milli is 'half', not a number."),
    ],
)
def test_a_bad_pod_is_told_by_its_line(tmp_path: Path, row: str, said: str) -> None:
    """More than an accelerator has is no part of one, and nobody asks for less than nothing."""
    path = tmp_path / "pods.csv"
    path.write_text(f"name,cpu_milli,memory_mib,num_gpu,gpu_milli\np-0,100,1,0,0\np-1,100,1,{row}\n")
    with pytest.raises(HeadraceError) as caught:
        read_pods(path)
    assert f"pods.csv:3: {said}" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_file_is_told(tmp_path: Path, text: str) -> None:
    """It does not lack columns: it has nothing."""
    path = tmp_path / "pods.csv"
    path.write_text(text)
    with pytest.raises(HeadraceError, match=r"pods\.csv: it is empty"):
        read_pods(path)


def test_how_a_list_was_saved_changes_nothing(tmp_path: Path, pods: tuple[Shape, ...]) -> None:
    """With a byte order mark and carriage returns, as spreadsheets do; and what is no text is told by its line."""
    path = tmp_path / "saved.csv"
    path.write_bytes(b"\xef\xbb\xbf" + PODS.replace("\n", "\r\n").encode())
    assert read_pods(path) == pods
    path.write_bytes(b"\xef\xbb\xbf" + PODS.encode().replace(b"p-1", b"p\xe9"))
    with pytest.raises(HeadraceError, match=r"saved\.csv:3: can't read it: byte 0xe9"):
        read_pods(path)


def test_pods_that_never_fill_the_cluster_are_refused(cluster: Cluster) -> None:
    """Nobody asks for an accelerator, or so few do that a million pods would have to come; arrivals end all the same."""
    none, one = Shape(0, 1000, 100, 1), Shape(1, 1, 100, 1)
    assert list(arrivals([none, none], cluster.milli, 1)) == [none, none]
    for pods, said in (([none] * 3, "no pod in it asks for a GPU"), ([none] * 100 + [one], "1,000,000 had")):
        with pytest.raises(HeadraceError, match=f"pods.csv: .*{said}"):
            check_demand(pods, cluster.milli, "pods.csv")
    check_demand([none, one], cluster.milli, "pods.csv")


def test_typical_pods_are_the_most_frequent_without_memory() -> None:
    """95 % of a hundred pods: the three rarest are left out; specs that differ in memory alone are one."""
    common = [Shape(1, 500, 1000, memory, ()) for memory in range(90)]
    rare = [Shape(1, 1000, cpu, 0, ()) for cpu in range(10)]
    demand = typical(common + rare)
    assert demand.shapes[0] == (Shape(1, 500, 1000, 0), 90)
    assert len(demand.shapes) == 6


def test_every_pod_arrives_once_before_any_comes_again(pods: tuple[Shape, ...]) -> None:
    """The same seed gives the same order, another seed another; re-sampling stops before 130 %."""
    for seed in range(5):
        come = list(arrivals(pods, 40_000, seed))
        assert Counter(come[:5]) == Counter(pods)
        assert sum(pod.milli for pod in come) <= 52_000
        assert come == list(arrivals(pods, 40_000, seed))
    orders = {tuple(islice(arrivals(pods, 40_000, seed), 5)) for seed in range(20)}
    assert len(orders) > 5


def test_arrivals_are_cut_where_demand_reaches_the_cluster() -> None:
    """The pod that reaches it is the last."""
    taken = until_full(iter([Shape(1, 400, 0, 0)] * 9), 1_000)
    assert len(taken) == 3
    assert until_full(iter(taken), 5_000) == taken


def test_what_is_not_refused_is_allocated(cluster: Cluster, pods: tuple[Shape, ...]) -> None:
    """For each policy: arrived less refused is all that is taken, and no node gives more than it has."""
    demand = typical(pods)
    counts = np.bincount(cluster.kind).tolist()
    rules: list[NodeRule] = [
        FirstFit(),
        BestFit(),
        Fgd(cluster.hardware, demand),
        Waste(cluster.hardware, counts, demand),
    ]
    for rule in rules:
        for seed in range(6):
            come = until_full(arrivals(pods, cluster.milli, seed), cluster.milli)
            outcome = replay(cluster, come, demand, rule)
            refused = sum(milli for _, milli in outcome.refused)
            allocated = sum(pod.milli for pod in come) - refused
            assert outcome.unallocated_percent == pytest.approx(100 - 100 * allocated / cluster.milli)
            assert outcome == replay(cluster, come, demand, rule)


def test_the_planner_places_what_a_bare_board_places(cluster: Cluster, pods: tuple[Shape, ...]) -> None:
    """The same pods are refused, by each rule, and by the planner's own where it decides for every node."""
    demand = typical(pods)
    counts = np.bincount(cluster.kind).tolist()
    waste = Waste(cluster.hardware, counts, demand)
    for rule in (FirstFit(), BestFit(), Fgd(cluster.hardware, demand), waste):
        for seed in range(20):
            come = until_full(arrivals(pods, 2 * cluster.milli, seed), 2 * cluster.milli)
            assert replay(cluster, come, demand, rule) == board_replay(cluster, come, rule)
    come = until_full(arrivals(pods, 2 * cluster.milli, 7), 2 * cluster.milli)
    assert replay(cluster, come, demand) == board_replay(cluster, come, waste)


def test_a_board_never_gives_what_it_does_not_have(cluster: Cluster, pods: tuple[Shape, ...]) -> None:
    """Kept in a second book, from the answers alone; a pod is refused only if no node has room for it."""
    board = Board(cluster, Waste(cluster.hardware, [2, 1], typical(pods)))
    cpu = [cluster.hardware[kind].cpu_milli for kind in cluster.kind]
    memory = [cluster.hardware[kind].memory_mb for kind in cluster.kind]
    milli = [cluster.hardware[kind].accelerators * 1000 for kind in cluster.kind]
    for pod in arrivals(pods, 2 * cluster.milli, 1):
        node = board.place(pod)
        if node is None:
            roomy = (board.view.left_milli >= pod.share_milli).sum(axis=1) >= pod.accelerators
            roomy &= (board.view.cpu_milli >= pod.cpu_milli) & (board.view.memory_mb >= pod.memory_mb)
            accepts = [
                not pod.accelerators or pod.accepts(cluster.hardware[kind].accelerator)
                for kind in cluster.kind
            ]
            assert not (roomy & np.array(accepts)).any()
            continue
        cpu[node] -= pod.cpu_milli
        memory[node] -= pod.memory_mb
        milli[node] -= pod.milli
        assert cpu[node] == board.view.cpu_milli[node] >= 0
        assert memory[node] == board.view.memory_mb[node] >= 0
        assert milli[node] == board.view.left_milli[node].sum() >= 0
        assert (board.view.left_milli >= 0).all()


class Forgetful:
    """A policy that answers as another does, and writes down how many rows it was asked for."""

    def __init__(self, demand: Demand, cluster: Cluster) -> None:
        self._rule = Fgd(cluster.hardware, demand)
        self.asked: list[int] = []

    def costs(self, view: NodeView, shape: Shape) -> tuple[I64, I64]:
        self.asked.append(len(view.kind))
        return self._rule.costs(view, shape)


def test_only_nodes_that_changed_are_asked_for_again(cluster: Cluster) -> None:
    """The first pod of a shape looks at all that fit, the next ones at the node that was taken last."""
    pod = Shape(1, 500, 1_000, 1)
    policy = Forgetful(Demand(((pod, 1),)), cluster)
    board = Board(cluster, policy)
    placed = [board.place(pod) for _ in range(4)]
    assert policy.asked == [3, 1, 1, 1]
    assert placed == [0, 0, 0, 0]
