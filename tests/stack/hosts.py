"""Two hosts on one machine: namespaces of the kernel with a virtual cable between them.

Each has its own network, name, processes, shared memory and folder for sockets. They share the
disk. Their /etc/hosts is that of stock Debian: a host's own name stands for 127.0.1.1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

UNSHARE = (
    *("unshare", "--net", "--uts", "--ipc", "--mount", "--pid"),
    *("--fork", "--kill-child", "--mount-proc"),
)
CABLE = "cable0"  # on each host


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """One of them."""

    name: str
    address: str
    process: int  # its first one, as this machine numbers it

    def command(self, command: Sequence[str | Path]) -> list[str | Path]:
        """What runs a command there, in the working folder of this process."""
        enter = ("nsenter", "--target", str(self.process), "--all", "--")
        return [*enter, "env", "-C", str(Path.cwd()), *command]

    def start(
        self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a process. It ends with the host, if not before."""
        with log.open("ab") as out:
            return subprocess.Popen(
                self.command(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    def sent(self) -> int:
        """Bytes that have gone to the other host."""
        devices = subprocess.run(
            self.command(["cat", "/proc/net/dev"]), capture_output=True, text=True, check=True
        ).stdout
        (line,) = (line for line in devices.splitlines() if line.strip().startswith(CABLE))
        return int(line.partition(":")[2].split()[8])


def why_not() -> str | None:
    """Why there can be no hosts on this machine; None where there can."""
    if os.geteuid() != 0:
        return "two hosts: needs root, to make namespaces and interfaces; run the tests as root"
    tools = ("ip", "unshare", "nsenter", "mount", "bash")
    if absent := [tool for tool in tools if shutil.which(tool) is None]:
        return (
            f"two hosts: {', '.join(absent)} not found; install iproute2, util-linux and bash with "
            "the package manager of this system"
        )
    cable = "mount -t tmpfs none /dev/shm && ip link add type veth"
    tried = subprocess.run([*UNSHARE, "bash", "-c", cable], capture_output=True, text=True)
    if tried.returncode == 0:
        return None
    told = tried.stderr.strip() or f"exit code {tried.returncode}"
    return f"two hosts: {told}; a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN for them"


@contextmanager
def two_hosts(sockets: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts until the end of the block, 10.77.0.1 and 10.77.0.2.

    Args:
        sockets: a folder that is another on each of them, with a short path. Beside it come files.
    """
    names, addresses = ("one", "two"), ("10.77.0.1", "10.77.0.2")
    hosts: list[Host] = []
    with ExitStack() as stack:
        # The shell is the first process of its host, and ends with the end of this process.
        shells = [stack.enter_context(_Shell()) for _ in names]
        for name, address, shell in zip(names, addresses, shells, strict=True):
            shell.do("true")  # it has come into its namespaces
            (first,) = psutil.Process(shell.process.pid).children()
            hosts.append(Host(name=name, address=address, process=first.pid))
        ends = [["name", CABLE, "netns", str(host.process)] for host in hosts]
        cable = ["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]]
        subprocess.run(cable, check=True)
        for host, other, shell in zip(hosts, hosts[::-1], shells, strict=True):
            table = sockets.with_name(f"{sockets.name}.{host.name}")
            table.write_text(
                f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n{other.address} {other.name}\n"
            )
            shell.do(
                "mount -t tmpfs none /dev/shm",
                f"mount -t tmpfs none {sockets}",
                f"mount --bind {table} /etc/hosts",
                f"hostname {host.name}",
                "ip link set lo up",
                f"ip address add {host.address}/24 dev {CABLE}",
                f"ip link set {CABLE} up",
                # By the way out Ray finds the address of the head node.
                f"ip route add default via {other.address}",
            )
        yield hosts[0], hosts[1]


class _Shell:
    """A shell in namespaces of its own."""

    def __enter__(self) -> _Shell:
        self.process = subprocess.Popen(
            [*UNSHARE, "bash", "-e"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def do(self, *commands: str) -> None:
        """Type commands, and wait for their end."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n".join([*commands, "echo done\n"]))
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n", f"one of these has failed: {commands}"


if __name__ == "__main__":  # continuous integration tells beforehand what it will not run
    if (reason := why_not()) is not None:
        print(f"tests/stack/test_two_hosts.py will be skipped: {reason}")
