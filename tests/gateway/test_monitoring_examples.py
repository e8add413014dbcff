"""`examples/gateway/monitoring`: alert rules and dashboard name metrics, labels and values that the gateway exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from crestline.gateway import metrics
from harness.page_blocks import ROOT
from harness.parts import require

FOLDER = ROOT / "examples/gateway/monitoring"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
OF_PROMETHEUS = {"job", "instance", "le"}
"""labels that Prometheus or a histogram adds"""
DURATION = r"(\d+(ms|s|m|h|d|w|y))+"
FUNCTIONS = {"sum", "min", "rate", "increase", "histogram_quantile"}
KINDS = {Counter: ("_total",), Histogram: ("_bucket", "_count", "_sum"), Gauge: ("",)}


def exported() -> dict[str, set[str]]:
    """Names of the gateway's series, with the labels that it gives them."""
    found = {"up": set[str]()}
    for each in vars(metrics).values():
        if isinstance(each, MetricWrapperBase):
            (metric,) = each.describe()
            found |= {metric.name + suffix: set(each._labelnames) for suffix in KINDS[type(each)]}
    for metric in metrics.REGISTRY.collect():  # those of the process
        found |= {sample.name: set(sample.labels) for sample in metric.samples if sample.name.startswith("process_")}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_metrics_and_labels_exist(title: str, expression: str) -> None:
    series = exported()
    bare = re.sub(r'"[^"]*"', '""', re.sub(r"\[[^\]]*\]", "", expression))
    words = set(re.findall(r"[a-zA-Z_]\w*(?![\w(])", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", bare))) - FUNCTIONS
    assert words, title
    assert words <= set(series), f"{title}: the gateway does not export {words - set(series)}"
    known = OF_PROMETHEUS.union(*(series[word] for word in words))
    named = set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
    named |= {name for names in re.findall(r"by \(([^)]*)\)", bare) for name in re.split(r",\s*", names)}
    assert named <= known, f"{title}: no such label: {named - known}"
    assert bare.count("(") == bare.count(")")
    assert set(re.findall(r"(\w+) ?\(", bare)) <= FUNCTIONS | {"by"}, title
    for span in re.findall(r"\[([^\]]*)\]", expression):
        assert re.fullmatch(DURATION, span) or span == "$__rate_interval", title


def test_values_of_labels_are_those_of_the_code() -> None:
    source = "".join(path.read_text() for path in Path(metrics.__file__).parent.rglob("*.py"))
    for title, expression in expressions():
        for name, value in re.findall(r'(outcome|state)=~?"([^"]*)"', expression):
            assert f'"{value}"' in source, f"{title}: {name} is never {value}"


def test_rules_have_the_documented_form() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    runbook = (ROOT / "docs/how-to/runbook.md").read_text()
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
        assert re.fullmatch(r"Crestline[A-Za-z]+", rule["alert"])
        assert re.fullmatch(DURATION, rule.get("for", "0s"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.search(rf"^### {rule['alert']}$", runbook, re.MULTILINE), "what to do about it"
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
            known = set(grouped[0].split(", ")) if grouped else OF_PROMETHEUS | {"system", "service"}
            assert label in known, f"{rule['alert']}: its series have no {label}"
    assert set(re.findall(r"^### (Crestline\w+)$", runbook, re.MULTILINE)) == set(names)


def test_the_dashboard_can_be_imported() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over each other"
    assert max(x for x, _ in cells) < 24
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"} == variables


def test_prometheus_takes_the_rules_and_they_alert(tmp_path: Path) -> None:
    require(shutil.which("promtool") is not None, "There is no `promtool`: install Debian's `prometheus`.")
    rules = FOLDER / "alerts.yml"
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout
    (down,) = (rule for rule in RULES if rule["expr"].startswith("up"))
    expected = {
        "exp_labels": {**down["labels"], "job": "crestline", "instance": "hpc:9464"},
        "exp_annotations": {"summary": "The gateway hpc:9464 does not answer."},
    }
    case = {
        "interval": "1m",
        "input_series": [{"series": 'up{job="crestline", instance="hpc:9464"}', "values": "1x10 0x30"}],
        "alert_rule_test": [
            {"eval_time": "10m", "alertname": down["alert"], "exp_alerts": []},
            {"eval_time": "40m", "alertname": down["alert"], "exp_alerts": [expected]},
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [case]}))
    done = subprocess.run(
        ["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
