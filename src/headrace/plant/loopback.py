"""Addresses of a plant's machines: each has one of its own in 127.0.0.0/8, as it would on a management network.

So a server's base URL is what it is on a real one (``http://ADDRESS:PORT``, with ``/redfish/v1`` at its root), one connection
serves one server, and a miner answers at its make's own port, where pyasic looks for it. Path prefixes on one address would be
none of that, and a port for each of a thousand servers needs a thousand listening sockets: here one listens for all of them.
"""

import socket

FIRST_NETWORK, LAST_NETWORK = 64, 127
PER_ROW = 250
NODE_ROW, MINER_ROW = 1, 128


def node_address(network: int, node: int) -> str:
    """The address of a node's controller."""
    return f"127.{network}.{NODE_ROW + node // PER_ROW}.{1 + node % PER_ROW}"


def miner_address(network: int, miner: int) -> str:
    """The address of a miner."""
    return f"127.{network}.{MINER_ROW + miner // PER_ROW}.{1 + miner % PER_ROW}"


def node_of(address: str) -> int:
    """Which node's controller has an address; -1 for none."""
    parts = address.split(".")
    if len(parts) != 4 or parts[0] != "127" or not all(part.isdecimal() for part in parts):
        return -1
    row, place = int(parts[2]) - NODE_ROW, int(parts[3]) - 1
    if not 0 <= row < MINER_ROW - NODE_ROW or not 0 <= place < PER_ROW:
        return -1
    return row * PER_ROW + place


def networks() -> range:
    """All networks that a plant's machines may have, in the order in which to try them."""
    return range(FIRST_NETWORK, LAST_NETWORK + 1)


def listen(network: int, nodes: int, port: int) -> list[socket.socket]:
    """Sockets that listen at ``port`` (0: a free one) of all nodes' addresses, and are reached from this machine alone."""
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # All addresses, but of the loopback interface only: nothing that comes from outside gets here.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        one.bind(("0.0.0.0", port))  # noqa: S104
        one.listen(4_096)
    except (OSError, AttributeError):
        one.close()
    else:
        return [one]
    # An older kernel, or another system: one for each address, the first of which chooses the port.
    found: list[socket.socket] = []
    for node in range(nodes):
        here = found[0].getsockname()[1] if found else port
        found.append(socket.create_server((node_address(network, node), here), backlog=64))
    return found
