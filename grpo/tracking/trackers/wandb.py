"""Weights & Biases: online with a key, offline without, one run a training.

The axis of every panel is our own `step`, not wandb's counter of calls: an evaluation and an update
of the same step are two calls. wandb is told of no file, no console text and no command line; what
it gets is redacted.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from grpo.common.files import plain, read_jsonl, write_atomically
from grpo.config.schema import WandbConfig
from grpo.tracking.redact import redact, wandb_key_source

ResolvedMode = Literal["online", "offline", "disabled"]

TABLE_ROWS = 64  # samples shown of one evaluation; all are in the run folder
_MODE_WORDS: dict[str, ResolvedMode] = {  # of WANDB_MODE
    "online": "online", "run": "online", "offline": "offline", "dryrun": "offline",
    "disabled": "disabled",
}  # fmt: skip
FINISH_SECONDS = 60.0  # for the last uploads; what is left over can be sent with `wandb sync`


def resolve_mode(settings: WandbConfig, environ: Mapping[str, str] | None = None) -> ResolvedMode:
    """What `mode` comes to here. `auto` follows WANDB_MODE, then whether there is a key.

    Raises:
        ValueError: online is asked for and no key is found.
    """
    environ = os.environ if environ is None else environ
    has_key = wandb_key_source(environ) is not None
    wished = settings.mode if settings.mode != "auto" else environ.get("WANDB_MODE", "")
    mode = _MODE_WORDS.get(wished, "online" if has_key else "offline")
    if mode == "online" and not has_key:
        raise ValueError(
            f"tracking.wandb.mode={settings.mode} with WANDB_MODE="
            f"{environ.get('WANDB_MODE', '')!r} asks for uploads, and there is no key for wandb: "
            "set WANDB_API_KEY, run `wandb login`, or set tracking.wandb.mode=offline"
        )
    return mode


class WandbTracker:
    """Copies a run to wandb. `mode` is what `resolve_mode` returned, and not "disabled"."""

    name = "wandb"

    def __init__(
        self,
        settings: WandbConfig,
        mode: ResolvedMode,
        output_dir: Path,
        config: dict[str, Any],
        recipe: str,
    ) -> None:
        self._settings = settings
        self._mode = mode
        self._output_dir = output_dir
        self._config = config  # redacted already; it also goes into wandb's own log files
        self._recipe = recipe
        self._run: Any = None
        self._note = ""

    def start(self) -> None:
        """Open the run; where the service does not answer, offline, so that nothing is lost."""
        import wandb

        try:
            self._run = self._init(self._mode)
        except (wandb.Error, OSError) as error:
            if self._mode == "offline":
                raise
            self._note = f" (offline, since the service failed: {type(error).__name__})"
            self._mode = "offline"
            self._run = self._init("offline")
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def _init(self, mode: ResolvedMode) -> Any:
        import wandb

        return wandb.init(
            id=self._run_id(),
            resume="allow",
            project=self._settings.project,
            entity=self._settings.entity,
            name=self._settings.name or f"{self._recipe}-{self._output_dir.name}",
            group=self._settings.group,
            tags=[self._recipe, *self._settings.tags],
            job_type="train",
            dir=str(self._output_dir),
            config=self._config,
            mode=mode,
            settings=wandb.Settings(
                silent=True,  # it would write across the progress display; we say where to look
                console="off",  # console text may hold anything
                # the remote's address may hold a token; the hash is in the config
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,  # the command line may hold a key
                x_save_requirements=False,
                init_timeout=30.0,
                finish_timeout=FINISH_SECONDS,
            ),
        )

    def _run_id(self) -> str:
        """The same for every process that works on this run, so that its curves go on."""
        file = self._output_dir / "wandb_id"
        if not file.exists():
            write_atomically({file: secrets.token_hex(8)})
        return file.read_text(encoding="utf-8").strip()

    def log(self, step: int, values: dict[str, Any]) -> None:
        """Log a row with its step."""
        self._run.log({"step": step, **values})

    def log_samples(self, step: int, name: str, rows: list[dict[str, Any]]) -> None:
        """One table at each evaluation; its columns are the keys of the rows."""
        import wandb

        shown = rows[:TABLE_ROWS]
        columns: list[str | int] = list(dict.fromkeys(key for row in shown for key in row))
        data = [[_cell(row[key]) if key in row else None for key in columns] for row in shown]
        table = wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        self._run.log({"step": step, f"eval/{name}_samples": table})

    def log_switch(self, step: int, switch: dict[str, str]) -> None:
        """A table of all switches so far, because a line panel cannot mark a step with text.

        Earlier ones come from the record: another process of this run may have made them.
        """
        import wandb

        columns: list[str | int] = ["step", "from", "to", "reason"]
        rows: list[list[Any]] = []
        # A line that a full disk cut off is no reason to lose this switch too.
        with contextlib.suppress(OSError, ValueError):
            for old in read_jsonl(self._output_dir / "metrics.jsonl"):
                if "switch" in old and old["step"] < step:
                    rows.append([old["step"], *(old[f"switch/{key}"] for key in columns[1:])])
        rows.append([step, *(switch[str(key)] for key in columns[1:])])
        self._run.log({"step": step, "stage/switches": wandb.Table(columns=columns, data=rows)})

    def finish(self, summary: dict[str, Any] | None) -> str | None:
        """Close it, and say where to look."""
        if summary is not None:
            self._run.summary.update(_flat(redact(plain(summary))))
        folder = Path(self._run.dir).parent
        where = self._run.url if self._mode == "online" else f"wandb sync {folder}{self._note}"
        self._run.finish(exit_code=0 if summary is not None else 1)
        return where


def _cell(value: Any) -> Any:
    """A table cell: numbers and text as they are, anything nested as text. Lone surrogates have no
    UTF-8.
    """
    value = plain(value)
    if isinstance(value, str | list | dict):
        return str(value).encode("utf-8", errors="replace").decode("utf-8")
    return value


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested summary as `final/sampled/accuracy`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{key}/")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat
