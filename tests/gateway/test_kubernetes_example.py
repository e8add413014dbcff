"""`examples/gateway/kubernetes.yaml`: valid objects that belong together, with the gateway's own options and routes."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click import Context
from typer.main import get_command

from crestline.cli.app import app
from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.runtime import GatewayRuntime
from harness.page_blocks import ROOT

FOLDER = ROOT / "examples/gateway"
OBJECTS: dict[str, dict[str, Any]] = {
    each["kind"]: each for each in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
}
POD = OBJECTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]


@pytest.mark.parametrize("kind", OBJECTS)
def test_each_object_is_valid(kind: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], kubernetes_validate.latest_version(), strict=True)


def test_each_object_means_the_same_pods_and_ports() -> None:
    labels = POD["metadata"]["labels"]
    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["Service"]["spec"]["selector"] == labels
    assert OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for port in CONTAINER["ports"]}
    assert {port["targetPort"] for port in OBJECTS["Service"]["spec"]["ports"]} == ports
    opened = {port["port"] for rule in OBJECTS["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]}
    assert opened == ports
    (path,) = OBJECTS["Ingress"]["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": OBJECTS["Service"]["metadata"]["name"], "port": {"name": "http"}}
    volumes = {volume["name"] for volume in POD["spec"]["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes


def test_the_container_is_that_of_the_containerfile() -> None:
    file = (FOLDER / "Containerfile").read_text()
    uid = int(re.findall(r"--uid (\d+)", file)[0])
    assert POD["spec"]["securityContext"]["runAsUser"] == uid
    assert CONTAINER["ports"][0]["containerPort"] == int(re.findall(r"EXPOSE (\d+)", file)[0])
    assert re.findall(r"^VOLUME (.*)$", file, re.MULTILINE)[0] in {
        mount["mountPath"] for mount in CONTAINER["volumeMounts"]
    }
    group = get_command(app)
    serve = group.get_command(Context(group), "serve")
    options = {option for each in serve.params for option in each.opts}
    assert {word for word in CONTAINER["args"] if word.startswith("--")} <= options
    (init,) = POD["spec"]["initContainers"]
    assert init["image"] == CONTAINER["image"]
    assert f"chown {uid}:" in init["command"][-1]
    routes = {route.path for route in create_app(GatewayRuntime(GatewayConfig())).routes}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[probe]["httpGet"]["path"] in routes
        assert CONTAINER[probe]["httpGet"]["port"] == "http"


def test_the_container_may_do_nothing_that_it_does_not_need() -> None:
    assert POD["spec"]["securityContext"]["runAsNonRoot"]
    assert not POD["spec"]["automountServiceAccountToken"]
    own = CONTAINER["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
