"""`grpo doctor`: what it finds, and what it makes of it."""

from __future__ import annotations

import pytest

from grpo.commands import doctor


def test_a_machine_that_runs_the_tests_can_train(capsys):
    assert doctor.main([]) == 0
    report = capsys.readouterr().out
    assert "torch" in report and "memory" in report and "CPU cores" in report


def test_a_missing_package_is_named_with_the_way_to_get_it(monkeypatch):
    def missing(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", missing)
    finding = doctor._package("deepspeed", {"deepspeed": "0.19.8"})
    assert (finding.state, finding.text) == (
        "bad",
        "not installed; `make venv` installs the tested set",
    )


def test_another_version_than_the_tested_one_is_a_note(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "9.9")
    assert doctor._package("ray", {"ray": "2.60.0"}).state == "note"
    assert doctor._package("torch", {"torch": "9.9+cpu"}).state == "ok"


def test_the_lock_files_name_all_parts():
    assert set(doctor.PARTS) - {"vllm"} <= set(doctor.tested_versions("cpu"))
    assert {"torch", "vllm", "ray", "deepspeed"} <= set(doctor.tested_versions("gpu"))


@pytest.mark.parametrize(("token", "state"), [("0" * 64, "ok"), (None, "note")])
def test_a_named_cluster_without_a_token_is_a_note(monkeypatch, tmp_path, token, state):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    if token:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    assert doctor._open_ray().state == state


@pytest.mark.parametrize(("mode", "state"), [(None, "ok"), ("token", "ok"), ("disabled", "note")])
def test_a_private_cluster_that_asks_for_no_token_is_a_note(monkeypatch, mode, state):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert doctor._open_ray().state == state
