from pathlib import Path

import pytest

from grpo.config.schema import WandbConfig
from grpo.tracking.redact import REDACTED, held_secrets, is_secret_key, redact, wandb_key_source
from grpo.tracking.trackers.wandb import resolve_mode


@pytest.mark.parametrize(
    "key",
    ["hf_token", "token", "HF_TOKEN", "apiKey", "api_key", "WANDB_API_KEY", "db.password",
     "AWS_SECRET_ACCESS_KEY", "client_secret", "privateKey", "credentials", "Authorization", "ssh-key"],
)  # fmt: skip
def test_names_of_secrets(key: str):
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key",
    ["max_tokens", "eos_token", "pad_token_id", "tokenizer", "tokens_per_second", "key", "keys", "monkey",
     "PWD", "stop_token", "num_tokens_per_microbatch", "author", "secretary_problem"],
)  # fmt: skip
def test_names_that_only_look_like_secrets(key: str):
    assert not is_secret_key(key)


@pytest.mark.parametrize(
    "text",
    [
        "hf_" + "aB3" * 12,
        "wandb_v1_" + "aB3_" * 12,
        "sk-proj-" + "x" * 30,
        "ghp_" + "a1" * 18,
        "AKIA" + "A1B2" * 4,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
        "0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_values_that_look_like_secrets_are_cut_out_of_text(text: str):
    assert redact({"note": f"see {text} there"}, held=[]) == {"note": f"see {REDACTED} there"}


def test_what_a_run_needs_is_kept():
    config = {
        "revision": "0123456789abcdef0123456789abcdef01234567",
        "weights_sha256": "ab" * 32,
        "eos_token": "<eos>",
        "token": "<|im_end|>",
        "api_key": None,
        "max_tokens": 64,
        "url": "https://example.org/a?b=c",
        "lr": 1.5e-4,
    }
    assert redact(config, held=[]) == config


def test_secrets_inside_addresses_overrides_keys_and_nested_values():
    assert redact("https://me:pw@example.org", held=[]) == f"https://{REDACTED}@example.org"
    assert redact(["hub.token=abc", "lr=1"], held=[]) == [f"hub.token={REDACTED}", "lr=1"]
    assert redact({"credentials": {"user": "me", "x": 1}}, held=[]) == {"credentials": REDACTED}
    assert redact({"a": {"the-held-one": "b"}}, held=["the-held-one"]) == {"a": {REDACTED: "b"}}


def test_values_held_by_the_process_are_secret_whatever_they_look_like(tmp_path: Path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine example.org login me password netrc-password\n")
    environment = {
        "MY_TOKEN": "looks like nothing",
        "PWD": "/some/folder",
        "X_TOKEN": "short",
        "NETRC": str(netrc),
    }
    held = held_secrets(environment)
    assert held == ["looks like nothing", "netrc-password"]
    assert redact("with looks like nothing in it", held) == f"with {REDACTED} in it"


def test_where_a_wandb_key_is_found(tmp_path: Path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password 0123456789\n")
    nowhere = {"NETRC": str(tmp_path / "none")}
    assert wandb_key_source(nowhere) is None
    assert wandb_key_source({"NETRC": str(netrc)}) == str(netrc)
    assert (
        wandb_key_source({"NETRC": str(netrc), "WANDB_BASE_URL": "https://own.example.org"}) is None
    )
    assert wandb_key_source(nowhere | {"WANDB_API_KEY": "x"}) == "WANDB_API_KEY"


def test_wandb_mode_follows_setting_then_environment_then_key(tmp_path: Path):
    no_key = {"NETRC": str(tmp_path / "none")}
    key = no_key | {"WANDB_API_KEY": "x"}
    assert resolve_mode(WandbConfig(), no_key) == "offline"
    assert resolve_mode(WandbConfig(), key) == "online"
    assert resolve_mode(WandbConfig(), key | {"WANDB_MODE": "disabled"}) == "disabled"
    assert resolve_mode(WandbConfig(mode="offline"), key | {"WANDB_MODE": "disabled"}) == "offline"
    with pytest.raises(ValueError, match=r"tracking\.wandb\.mode=online.*WANDB_API_KEY"):
        resolve_mode(WandbConfig(mode="online"), no_key)
