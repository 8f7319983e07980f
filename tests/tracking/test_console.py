import io

import pytest

from grpo.tracking.terminal import display as console
from grpo.tracking.terminal.display import PlainDisplay, open_display
from grpo.tracking.terminal.wording import Pace, duration, number, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_control_and_direction_characters_become_visible():
    assert shown("a\x1b[31m\u202eb\x00\ud800\u2028") == "a\\x1b[31m\\u202eb\\x00\\ud800\\u2028"
    assert shown("größer ≥ 数\n") == "größer ≥ 数\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m00s"), (200, "3m20s"), (3599.7, "1h00m"), (7530, "2h05m")],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_numbers_read_as_their_metric_asks():
    assert number("accuracy", 0.91251) == "0.913"
    assert number("response_length", 34.26) == "34.3"
    assert number("tokens_per_second", 10_540.0) == "10.5k"
    assert number("generated_tokens", 1_234_567) == "1.2M"
    assert number("reward", "nan\x1b") == "nan\\x1b"


def test_time_left_is_the_median_step_times_what_remains():
    pace = Pace(total_steps=10)
    assert pace.left(0) == "-"
    pace.start(0.0)
    for now in (2.0, 4.0, 30.0):  # the slow one held an evaluation
        pace.step(now)
    assert pace.left(3) == "14s"


def test_a_phase_that_counts_or_returns_prints_now_and_then_and_a_new_one_at_once(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = iter([0.0, 1.0, 2.0, 3.0, 16.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(console, "PLAIN_STATUS_SECONDS", 15.0)
    stream = io.StringIO()
    display = PlainDisplay(total_steps=3, stream=stream)
    for text in ("evaluating 1%", "sampling", "evaluating 2%", "sampling", "evaluating 30%"):
        display.status(text)
    assert stream.getvalue().splitlines() == ["evaluating 1%", "sampling", "evaluating 30%"]


def test_a_terminal_gets_the_live_display_and_a_pipe_or_a_dumb_terminal_plain_lines(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_display("tiny", 3, io.StringIO()), PlainDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_display("tiny", 3, Terminal()), PlainDisplay)


def test_the_live_display_shows_phase_progress_and_figures_without_markup(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    display = open_display("tiny", 40, stream)
    display.status("starting [bold]engines[/bold] \x1b]0;pwned\x07")
    display.step({"step": 21, "reward": 0.705, "accuracy": 0.605, "tokens_per_second": 3400.0})
    display.evaluation(20, "greedy", {"accuracy": 0.7})
    display.notice("wandb: [red]lost[/red]")
    display.status("evaluating [bold]1024[/bold] problems 37%\x1b]0;pwned\x07")
    display.close()
    text = stream.getvalue()
    assert "step 21/40" in text and "0.705" in text and "3.4k" in text and "greedy, step 20" in text
    assert "evaluating [bold]1024[/bold] problems 37%\\x1b]0;pwned\\x07" in text
    assert "wandb: [red]lost[/red]" in text and "\x1b]0;" not in text
    assert "\x1b[?25h" in text  # the cursor is given back


def test_a_stream_that_cannot_write_a_character_still_gets_the_line():
    raw = io.BytesIO()
    display = PlainDisplay(total_steps=1, stream=io.TextIOWrapper(raw, encoding="ascii"))
    display.notice("größer")
    assert raw.getvalue() == b"gr??er\n"
