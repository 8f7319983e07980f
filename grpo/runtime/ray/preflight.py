"""What Ray would stumble over, found before: Ray waits for minutes, or ends in a traceback.

Nothing here starts or loads Ray.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from grpo.common.errors import UserError

SOCKET_PATH_BYTES = 107  # sun_path of an AF_UNIX address on Linux, without the closing zero
# Ray's sockets lie in TEMP/session_2026-11-26_01-19-33_123456_1234567/sockets/plasma_store.
_BELOW_TEMP = "/session_0000-00-00_00-00-00_000000_0000000/sockets/plasma_store"


class UnavailableError(UserError):
    """The cluster does not have what the recipe asks for, or is not there. Where a run has had it,
    it may come back.
    """


def ray_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where Ray keeps sessions and sockets by itself: `ray` in RAY_TMPDIR, TMPDIR or /tmp."""
    environ = os.environ if environ is None else environ
    base = environ.get("RAY_TMPDIR") or environ.get("TMPDIR")
    return Path(base or "/tmp") / "ray"


def address_file(environ: Mapping[str, str] | None = None) -> Path:
    """The file in which `ray start` notes the address of the cluster of this machine."""
    return ray_folder(environ) / "ray_current_cluster"


def check_address(
    setting: str, address: str, environ: Mapping[str, str] | None = None, timeout: float = 10
) -> str:
    """The address to hand to `ray.init`, after something has answered there.

    `auto` is the address in Ray's own file. A cluster that died leaves that file, and Ray would
    wait for it for many minutes.

    Args:
        setting: where the address comes from, such as "RAY_ADDRESS".
        timeout: seconds for one connection.

    Raises:
        UnavailableError: no such cluster answers.
        UserError: the address is none.
    """
    if address == "local":
        return address
    source = f"{setting}={address}"
    if address == "auto":
        file = address_file(environ)
        found = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        if not found:
            raise UnavailableError(
                f"{source}: no cluster was started on this machine ({file} has no address); run "
                "`ray start --head`, name host:port, or leave it out for a private cluster"
            )
        source = f"{source} ({found} in {file})"
    else:
        found = address
    host, _, port = found.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{source}: is not auto, local or host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except (OSError, OverflowError) as error:
        fix = "run `ray stop` and `ray start --head`" if address == "auto" else "start Ray there"
        raise UnavailableError(
            f"{source}: nothing answers there ({error}); {fix}, or leave it out "
            "for a private cluster"
        ) from None
    return found


def check_addresses(addresses: Sequence[str]) -> None:
    """Ray asks a node that has no way out for the address of its name, which may be 127.0.1.1.

    Args:
        addresses: of all nodes.

    Raises:
        UserError: one of them is reached by itself only.
    """
    own = [address for address in addresses if ipaddress.ip_address(address).is_loopback]
    if 0 < len(own) < len(addresses):
        raise UserError(
            f"cluster: no other node can reach the one that joined as {own[0]}; start it again "
            "with --node-ip-address and the address by which the others know it, such as "
            "`launch/ray_node.sh head --node-ip-address=10.0.0.1`"
        )


def short_folder(environ: Mapping[str, str] | None = None, fallback: Path | None = None) -> Path:
    """A folder for `ray.init(_temp_dir=...)` whose sockets fit into a socket address.

    That is Ray's own where it is short enough, otherwise one of this user in /tmp.

    Args:
        fallback: instead of /tmp.

    Raises:
        UserError: neither will do.
    """
    own = ray_folder(environ).absolute()
    if fits(own):
        return own
    base = Path("/tmp") if fallback is None else fallback
    private = base / f"grpo-{os.getuid()}"
    short = private / "ray"  # Ray opens its own folder to everybody, so it stands in a closed one
    try:
        private.mkdir(mode=0o700, exist_ok=True)
        # Whoever owns the folder could put sockets of their own there.
        mine = not private.is_symlink() and private.stat().st_uid == os.getuid()
        if mine:
            private.chmod(0o700)
    except OSError:
        mine = False
    if not mine or not fits(short):
        raise UserError(
            f"TMPDIR={own.parent}: {len(os.fsencode(own.parent))} bytes are too long for Ray's "
            f"sockets (at most {longest_temp_dir()}), and {short} cannot be used instead; "
            "set RAY_TMPDIR to a short folder of yours"
        )
    return short


def fits(folder: Path) -> bool:
    """Do the sockets of a session in `folder` have short enough paths?"""
    return len(os.fsencode(f"{folder}{_BELOW_TEMP}")) <= SOCKET_PATH_BYTES


def longest_temp_dir() -> int:
    """Bytes that TMPDIR may have so that Ray's own folder will do."""
    return SOCKET_PATH_BYTES - len(f"/ray{_BELOW_TEMP}")


def free_gib(folder: Path) -> float:
    """Free space of the disk that `folder` is on, or will be; GiB."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free / 2**30
