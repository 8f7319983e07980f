"""The CPU channel: one gloo group of the sending rank (0) and all engine workers, apart from every
other group.
"""

from __future__ import annotations

import fcntl
import ipaddress
import os
import socket
import struct
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

INTERFACES = "GLOO_SOCKET_IFNAME"  # where gloo reads which interfaces to use
BACKEND = "grpo_gloo"  # the name under which the receiving end is registered with vLLM


def meeting_point(address: str, port: int, seconds: int, *, host: bool) -> dist.TCPStore:
    """The store through which the members find each other; the sender hosts it.

    Args:
        address: of the host.
        port: of the host. Where it hosts, 0 lets the system choose, and `.port` of the store says
            what it has chosen. Chosen and bound at once, it cannot be taken in between.
        seconds: longest wait of a member.
        host: host the store, rather than connect to it.

    A store asks nobody who they are, and by itself it listens on every interface. One whose
    members are all on this machine listens on the loopback address alone.
    """
    patience = timedelta(seconds=seconds)
    if host and _is_loopback(address):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
        return dist.TCPStore(
            address,
            listener.getsockname()[1],
            is_master=True,
            timeout=patience,
            wait_for_workers=False,
            use_libuv=False,  # which takes no socket of ours
            master_listen_fd=listener.detach(),  # the store closes it
        )
    return dist.TCPStore(address, port, is_master=host, timeout=patience, wait_for_workers=False)


def _is_loopback(address: str) -> bool:
    """Is this an address of the loopback interface, rather than any other one, or a name?"""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def join(
    store: dist.Store, rank: int, world_size: int, seconds: int, address: str
) -> dist.ProcessGroup:
    """The group itself; returns when all its members have come. It does not touch the default
    group.

    Args:
        store, rank, world_size: as of any group.
        seconds: longest wait for a member.
        address: of one of them, the same for all. Each is reached where its way to that begins.
    """
    options = dist.ProcessGroupGloo._Options()
    options._timeout = timedelta(seconds=seconds)
    # By itself gloo tells the others the address of the machine's own name. On stock Debian that is
    # 127.0.1.1, and they wait for it in vain.
    own, named = own_address(address), os.environ.get(INTERFACES)
    if named and not ipaddress.ip_address(own).is_loopback:
        devices = [dist.ProcessGroupGloo.create_device(interface=one) for one in named.split(",")]
    else:
        devices = [dist.ProcessGroupGloo.create_device(hostname=own)]
    options._devices = devices
    return dist.ProcessGroupGloo(dist.PrefixStore("group", store), rank, world_size, options)


def own_address(address: str) -> str:
    """This machine's address on its way to another one, or to itself."""
    family, _, _, _, there = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(there)  # UDP: nothing is sent
        return str(probe.getsockname()[0])


def interface_to(address: str) -> str | None:
    """The network interface on the way to an address; None where it has no IPv4 address."""
    own = own_address(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no IPv4 address
                get_address = 0x8915  # SIOCGIFADDR
                found = fcntl.ioctl(probe, get_address, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(found[20:24]) == own:
                    return name
    return None


def unreachable(address: str, port: int, seconds: float = 10) -> str | None:
    """Why a port that another machine has bound cannot be reached from here; None where it can.

    Behind a firewall that lets only known ports through, whoever meets would wait in vain.
    """
    try:
        socket.create_connection((address, port), seconds).close()
    except OSError as error:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
        return (
            f"processes meet on ports {first} to {last} (net.ipv4.ip_local_port_range), so open "
            f"these between the nodes: port {port} of {address} cannot be reached ({error})"
        )
    return None


def broadcast(group: dist.ProcessGroup, tensor: Tensor, seconds: float | None = None) -> None:
    """Send `tensor` from rank 0, or receive into it.

    Args:
        group: of the members.
        tensor: what is sent.
        seconds: longest wait for the others; None: that of the group.
    """
    options = dist.BroadcastOptions()
    if seconds is not None:
        options.timeout = timedelta(seconds=seconds)
    options.rootRank = 0
    options.rootTensor = 0
    group.broadcast([tensor], options).wait()
