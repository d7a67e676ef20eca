"""A gang meets whole or ends with the name of who is missing; nobody waits for ever."""

import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from headrace.payloads.gang import GangBrokenError, Message, meet
from headrace.payloads.place import Place


def place(rank: int, world_size: int, port: int) -> Place:
    return Place(rank, world_size, rank, "127.0.0.1", port, 0)


def take_part(rank: int, world_size: int, port: int, task: str = "sum") -> list[Message]:
    with meet(place(rank, world_size, port), task, timeout_s=5, say=lambda _line: None) as gang:
        return gang.gather({"rank": rank}, 5)


def test_results_come_to_rank_0_in_the_order_of_ranks(free_port: int) -> None:
    with ThreadPoolExecutor() as pool:
        ranks = [pool.submit(take_part, rank, 4, free_port) for rank in (3, 1, 0, 2)]
    assert [rank.result() for rank in ranks] == [
        [],
        [],
        [{"rank": 0}, {"rank": 1}, {"rank": 2}, {"rank": 3}],
        [],
    ]


def test_one_rank_alone_needs_no_port() -> None:
    assert take_part(0, 1, 0) == [{"rank": 0}]


def test_who_did_not_come_is_named(free_port: int) -> None:
    with pytest.raises(GangBrokenError, match=r"ranks \[1, 2\] of 3 did not come"):
        meet(place(0, 3, free_port), "sum", timeout_s=0.2, say=lambda _line: None)


def test_a_rank_without_a_leader_says_where_it_looked(free_port: int) -> None:
    with pytest.raises(GangBrokenError, match=f"rank 0 is not at 127.0.0.1:{free_port}"):
        meet(place(1, 2, free_port), "sum", timeout_s=0.2, say=lambda _line: None)


def test_a_port_that_is_taken_is_named(free_port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", free_port)),
        pytest.raises(GangBrokenError, match=f"rank 0 can't listen on .*:{free_port}"),
    ):
        meet(place(0, 2, free_port), "sum", timeout_s=0.2, say=lambda _line: None)


def refused(future: Future[list[Message]]) -> str:
    broken = future.exception(timeout=10)
    assert isinstance(broken, GangBrokenError)
    return str(broken)


def test_ranks_with_different_arguments_do_not_start(free_port: int) -> None:
    with ThreadPoolExecutor() as pool:
        leader = pool.submit(meet, place(0, 2, free_port), "sum", timeout_s=1, say=lambda _line: None)
        other = pool.submit(take_part, 1, 2, free_port, "product")
        assert "give all ranks the same arguments" in refused(other)
        assert "ranks [1] of 2 did not come" in str(leader.exception(timeout=10))


@pytest.mark.parametrize(
    "knock", [b"", b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"hello": {"rank": 7}}\n', b'{"hello": 1}\n']
)
def test_a_stranger_at_the_port_is_turned_away(free_port: int, knock: bytes) -> None:
    said: list[str] = []
    with ThreadPoolExecutor() as pool:

        def lead() -> list[Message]:
            with meet(place(0, 2, free_port), "sum", timeout_s=5, say=said.append) as gang:
                return gang.gather({"rank": 0}, 5)

        leader = pool.submit(lead)
        with connect(free_port) as stranger:
            stranger.sendall(knock)
        assert take_part(1, 2, free_port) == []
    assert leader.result() == [{"rank": 0}, {"rank": 1}]
    assert [line.split(":")[0] for line in said] == ["turned away"]


def test_a_rank_that_dies_ends_the_gang(free_port: int) -> None:
    with ThreadPoolExecutor() as pool:
        leader = pool.submit(take_part, 0, 2, free_port)
        meet(place(1, 2, free_port), "sum", timeout_s=5, say=lambda _line: None).__exit__(None, None, None)
        assert refused(leader) == "rank 1 ended before it said 'result'; see its log"


def test_a_leader_that_dies_ends_the_gang(free_port: int) -> None:
    with ThreadPoolExecutor() as pool:
        follower = pool.submit(take_part, 1, 2, free_port)
        meet(place(0, 2, free_port), "sum", timeout_s=5, say=lambda _line: None).__exit__(None, None, None)
        assert "rank 0" in refused(follower)


def connect(port: int) -> socket.socket:
    """Connect as soon as somebody listens."""
    for _attempt in range(500):
        try:
            link = socket.create_connection(("127.0.0.1", port), timeout=0.01)
        except OSError:
            time.sleep(0.01)
            continue
        if link.getsockname() != link.getpeername():
            return link
        # Nobody listened, and this end was given the very port: it met itself.
        link.close()
    raise AssertionError(f"nobody listens on {port}")
