"""What is found before Ray starts, with real files and sockets."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from grpo.common.errors import UserError
from grpo.runtime.ray import preflight


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def dead_address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    return address


def noted(folder: Path, address: str) -> dict[str, str]:
    """An environment in which Ray finds `address` as that of the last cluster."""
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(address)
    return {"RAY_TMPDIR": str(folder)}


def test_the_file_is_where_ray_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ray._common.utils import get_ray_address_file

    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
        assert str(preflight.address_file()) == get_ray_address_file(None)


def test_auto_with_the_file_of_a_dead_cluster_is_refused_at_once(tmp_path: Path, dead_address: str):
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"RAY_ADDRESS=auto .{dead_address} in .*nothing answers"):
        preflight.check_address("RAY_ADDRESS", "auto", noted(tmp_path, dead_address))
    assert time.monotonic() - began < 5


def test_auto_without_a_cluster_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="no cluster was started on this machine"):
        preflight.check_address("RAY_ADDRESS", "auto", {"RAY_TMPDIR": str(tmp_path)})


def test_auto_becomes_the_address_that_answers(tmp_path: Path, listener: str):
    found = preflight.check_address("RAY_ADDRESS", "auto", noted(tmp_path, listener))
    assert found == listener


def test_named_addresses_are_tried_and_others_refused(listener: str, dead_address: str):
    assert preflight.check_address("cluster.address", listener) == listener
    assert preflight.check_address("cluster.address", f"ray://{listener}") == f"ray://{listener}"
    assert preflight.check_address("cluster.address", "local") == "local"
    with pytest.raises(UserError, match="nothing answers"):
        preflight.check_address("cluster.address", dead_address)
    with pytest.raises(UserError, match=r"cluster\.address=head: is not auto"):
        preflight.check_address("cluster.address", "head")


def test_a_short_temporary_folder_is_kept(tmp_path: Path):
    assert preflight.short_folder({"TMPDIR": "/tmp"}) == Path("/tmp/ray")
    assert preflight.short_folder({"RAY_TMPDIR": "/t", "TMPDIR": "/x" * 99}) == Path("/t/ray")


def test_the_longest_folder_that_is_kept_still_takes_a_socket_of_ray(tmp_path: Path):
    from ray._private.utils import validate_socket_filepath

    longest = "/" + "x" * (preflight.longest_temp_dir() - 1)
    assert preflight.short_folder({"TMPDIR": longest}) == Path(longest) / "ray"
    path = f"{longest}/ray/session_2026-11-26_01-19-33_123456_1234567/sockets/plasma_store"
    validate_socket_filepath(path)
    with pytest.raises(OSError, match="cannot exceed 107 bytes"):
        validate_socket_filepath(path.replace("/x", "/xx", 1))
    assert preflight.short_folder({"TMPDIR": longest + "x"}) != Path(longest + "x") / "ray"


def test_a_long_temporary_folder_gives_a_short_one_of_this_user_alone():
    with tempfile.TemporaryDirectory(prefix="g", dir="/tmp") as base:  # tmp_path is too long
        private = Path(base) / f"grpo-{os.getuid()}"
        private.mkdir()
        private.chmod(0o777)  # as somebody left it
        short = preflight.short_folder({"TMPDIR": "/x" * 40}, fallback=Path(base))
        assert short.parent == private
        assert private.stat().st_mode & 0o077 == 0
        assert preflight.fits(short)


def test_where_no_short_folder_can_be_made_the_setting_is_named():
    with pytest.raises(UserError, match=r"TMPDIR=/x.*80 bytes are too long .*set RAY_TMPDIR"):
        preflight.short_folder({"TMPDIR": "/x" * 40}, fallback=Path("/proc/none"))


def test_a_link_in_place_of_the_short_folder_is_not_followed(tmp_path: Path):
    (tmp_path / f"grpo-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(UserError, match="cannot be used"):
        preflight.short_folder({"TMPDIR": "/x" * 40}, fallback=tmp_path)


def test_free_space_is_that_of_the_disk_a_folder_will_be_on(tmp_path: Path):
    free = preflight.free_gib(tmp_path / "not" / "there" / "yet")
    assert free == pytest.approx(preflight.free_gib(tmp_path), abs=1)


def test_a_node_that_only_itself_can_reach_is_named_where_there_are_others():
    with pytest.raises(UserError, match=r"joined as 127\.0\.1\.1.*--node-ip-address"):
        preflight.check_addresses(["10.0.0.2", "127.0.1.1"])
    preflight.check_addresses(["127.0.0.1", "127.0.0.1"])
    preflight.check_addresses(["10.0.0.1", "10.0.0.2"])
