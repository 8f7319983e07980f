import re

from grpo.tracking.catalogue import GROUPS, METRICS, in_order, panel_key
from tests.tracking.conftest import ROOT


def test_every_metric_has_a_panel_of_its_own_in_a_known_group():
    panels = [
        panel_key(metric.key)
        for metric in METRICS
        if "<" not in metric.key and metric.key != "step"
    ]
    assert len(set(panels)) == len(panels)
    assert {panel.split("/")[0] for panel in panels} <= set(GROUPS)
    assert all(panel.count("/") == 1 for panel in panels)


def test_open_families_of_keys_get_their_group_and_unknown_ones_are_still_shown():
    assert panel_key("reward/accuracy") == "reward/component_accuracy" != panel_key("accuracy")
    assert panel_key("eval/sampled/accuracy") == "eval/sampled_accuracy"
    assert panel_key("seconds/learn") == "speed/seconds_learn"
    assert panel_key("new/thing/x") == "new/thing_x"
    assert panel_key("sharpness") == "other/sharpness"


def test_order_does_not_depend_on_the_order_given():
    metrics = {
        "eval/greedy/accuracy": 1,
        "zzz": 1,
        "lr": 1,
        "reward/b": 1,
        "reward": 1,
        "reward/a": 1,
        "step": 1,
    }
    expected = ["step", "reward", "reward/b", "reward/a", "lr", "zzz", "eval/greedy/accuracy"]
    assert list(in_order(metrics)) == expected


def test_the_table_in_the_docs_is_this_list():
    text = (ROOT / "docs" / "tracking.md").read_text()
    documented = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.*?) \| (.*?) \|$", text, flags=re.M)
    assert documented == [(m.key, m.panel, m.unit or "-", m.meaning) for m in METRICS]
