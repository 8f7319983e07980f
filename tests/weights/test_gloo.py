"""How members of a gloo group find each other. Two hosts are in tests/stack/test_two_hosts.py."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.distributed as dist

from grpo.weights import gloo


def test_the_way_to_this_machine_is_its_loopback_interface():
    assert gloo.own_address("127.0.0.1") == "127.0.0.1"
    assert gloo.interface_to("127.0.0.1") == "lo"


def test_a_group_on_one_machine_needs_no_interface_that_others_use(monkeypatch):
    monkeypatch.setenv(gloo.INTERFACES, "nowhere0")
    store = dist.HashStore()
    with ThreadPoolExecutor(2) as threads:
        groups = list(
            threads.map(lambda rank: gloo.join(store, rank, 2, 60, "127.0.0.1"), range(2))
        )
        sent, received = torch.arange(3.0), torch.zeros(3)
        list(threads.map(gloo.broadcast, groups, (sent, received)))
    assert received.tolist() == [0.0, 1.0, 2.0]


def test_a_store_on_this_machine_alone_listens_on_the_loopback_address_alone():
    store = gloo.meeting_point("127.0.0.1", 0, 60, host=True)
    # One that listened everywhere would have this port of every address.
    socket.create_server(("127.0.0.2", store.port)).close()
    member = gloo.meeting_point("127.0.0.1", store.port, 60, host=False)
    member.set("key", "value")
    assert store.get("key") == b"value"


def test_a_port_that_cannot_be_reached_is_named_with_what_to_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert gloo.unreachable("127.0.0.1", port) is None
    found = gloo.unreachable("127.0.0.1", port)
    assert f"port {port} of 127.0.0.1 cannot be reached" in found
    assert "net.ipv4.ip_local_port_range" in found
