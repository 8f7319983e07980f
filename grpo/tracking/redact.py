"""Keeping secrets out of everything that is written about a run.

Three nets, each enough for some secrets: the name of the key, the look of the value, and the actual
values that this process holds as secrets (environment, netrc). The last one catches a key that
looks like nothing special.
"""

import itertools
import netrc
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REDACTED = "[redacted]"

_SECRET_WORDS = {
    "secret", "secrets", "password", "passwd", "passphrase", "credential", "credentials",
    "apikey", "apitoken", "authtoken", "bearer", "authorization", "cookie", "cookies",
}  # fmt: skip
_SECRET_PAIRS = {
    ("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("auth", "key"),
    ("ssh", "key"), ("wandb", "key"), ("hf", "key"), ("account", "key"), ("signing", "key"),
    ("encryption", "key"),
}  # fmt: skip
# `eos_token` and its like are text of a tokenizer; `token` and `hf_token` are not.
_TEXT_TOKENS = {
    "eos", "bos", "pad", "unk", "sep", "cls", "mask", "stop", "think", "image", "user", "system",
    "special", "start", "end", "per", "by", "next", "last", "first", "each",
}  # fmt: skip
_DIGEST_WORDS = {"hash", "sha", "sha1", "commit", "revision", "rev", "git", "digest", "checksum"}

_VALUE_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        r"\bhf_[A-Za-z0-9]{16,}",  # Hugging Face
        r"\bapi_org_[A-Za-z0-9]{16,}",
        r"\bwandb_v\d+_[A-Za-z0-9_\-]{20,}",
        r"\blocal-[0-9a-f]{40}\b",  # wandb, self-hosted
        r"\bsk-[A-Za-z0-9_\-]{16,}",
        r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}",
        r"\bgithub_pat_[A-Za-z0-9_]{20,}",
        r"\bglpat-[A-Za-z0-9_\-]{16,}",
        r"\bxox[abprs]-[A-Za-z0-9\-]{10,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\bAIza[A-Za-z0-9_\-]{30,}",
        r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+",  # JSON web token
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)",  # user:password@ in an address
        r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/\-]{8,}=*",
    )
]
_PLAIN_WANDB_KEY = re.compile(
    r"\b[0-9a-f]{40}\b"
)  # also the look of a git hash: see `_redact_text`
_ASSIGNMENT = re.compile(r"([A-Za-z_][\w.\-]*)(=)([\"']?)([^\s\"',;&]+)")


def key_words(key: str) -> list[str]:
    """The words of a key: `wandbApiKey`, `wandb_api_key` and `WANDB-API-KEY` are all wandb, api,
    key.
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", key)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


def is_secret_key(key: str) -> bool:
    """Whether a setting of this name holds a secret. `max_tokens`, `eos_token` and `token_id` do
    not.
    """
    words = key_words(key.rsplit(".", 1)[-1])
    if any(word in _SECRET_WORDS for word in words):
        return True
    if any(pair in _SECRET_PAIRS for pair in itertools.pairwise(words)):
        return True
    return bool(words) and words[-1] == "token" and not any(word in _TEXT_TOKENS for word in words)


def held_secrets(environ: Mapping[str, str] | None = None) -> list[str]:
    """Values this process knows to be secret, longest first: environment variables with a secret
    name, netrc passwords. Shorter than 8 characters is left alone: replacing such text would spoil
    what is written."""
    environ = os.environ if environ is None else environ
    values = {value for name, value in environ.items() if is_secret_key(name)} | set(
        _netrc_passwords(environ)
    )
    return sorted((value for value in values if len(value) >= 8), key=len, reverse=True)


def redact(value: Any, held: Iterable[str] | None = None, key: str = "") -> Any:
    """A copy of nested dicts, lists and text without secrets. Numbers stay, except under a secret
    name.

    Args:
        value: what `files.plain` returns.
        held: secrets to remove wherever they occur; None means `held_secrets()`.
        key: the name under which `value` stands.
    """
    held = held_secrets() if held is None else list(held)
    if key and is_secret_key(key) and not _says_nothing(value):
        return REDACTED
    if isinstance(value, Mapping):
        return {_redact_text(str(k), held, ""): redact(v, held, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, held, key) for item in value]
    return _redact_text(value, held, key) if isinstance(value, str) else value


def _says_nothing(value: Any) -> bool:
    """Unset, a switch, or a marker such as `<eos>`, which some recipe calls its token."""
    return (
        value in (None, "")
        or isinstance(value, bool)
        or (isinstance(value, str) and value[0] in "<[")
    )


def redact_text(text: str) -> str:
    """One piece of text, such as an error message, without secrets."""
    return _redact_text(text, held_secrets(), "")


def _redact_text(text: str, held: Iterable[str], key: str) -> str:
    for secret in held:
        text = text.replace(secret, REDACTED)
    for pattern in _VALUE_PATTERNS:
        text = pattern.sub(REDACTED, text)
    text = _ASSIGNMENT.sub(
        _redact_assignment, text
    )  # a command line or override inside a text: `hub.token=...`
    if not _DIGEST_WORDS & set(key_words(key)):
        text = _PLAIN_WANDB_KEY.sub(REDACTED, text)
    return text


def _redact_assignment(found: re.Match[str]) -> str:
    name, sign, quote, _value = found.groups()
    return f"{name}{sign}{quote}{REDACTED}" if is_secret_key(name) else found.group()


def netrc_path(environ: Mapping[str, str]) -> Path:
    """The file in which `wandb login` keeps its key."""
    return Path(environ["NETRC"]) if environ.get("NETRC") else Path.home() / ".netrc"


def _netrc_passwords(environ: Mapping[str, str]) -> list[str]:
    try:
        hosts = netrc.netrc(netrc_path(environ)).hosts
    except (OSError, netrc.NetrcParseError):
        return []
    return [password for _, _, password in hosts.values() if password]


def wandb_key_source(environ: Mapping[str, str] | None = None) -> str | None:
    """Where wandb would find a key: "WANDB_API_KEY", the path of a netrc file, or None."""
    environ = os.environ if environ is None else environ
    if environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    host = urlsplit(environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    path = netrc_path(environ)
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return str(path) if found and found[2] else None
