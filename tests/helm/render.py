"""Lints and renders a chart by Helm's own engine; run by the Python of `tests/helm/.venv`, which alone has it.

Reads `{"chart": PATH, "values": {...}}` from stdin and writes `{"messages": [...], "objects": {template: text}}`.
"""

import json
import sys

import helm_python

given = json.load(sys.stdin)
report = helm_python.lint(given["chart"], given["values"], strict=True, namespace="crestline")
with helm_python.Chart.load(given["chart"]) as chart:
    try:
        chart.validate_schema(given["values"])
        objects = chart.render(given["values"], name="crestline", namespace="crestline")
    except helm_python.HelmError as error:
        objects = {"error": str(error)}
json.dump({"messages": report["messages"], "objects": objects}, sys.stdout)
