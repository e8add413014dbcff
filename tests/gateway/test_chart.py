"""`examples/gateway/chart`: valid objects that belong together, with the gateway's own options and routes."""

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
from harness.helm import render
from harness.page_blocks import ROOT

CHART = ROOT / "examples/gateway/chart"
ALL = {
    "relay": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "image": {"repository": "registry.example.org/hpc/crestline", "tag": "1.2.3", "pullSecrets": ["registry"]},
}
NOTHING = {name: {"enabled": False} for name in ("ingress", "networkPolicy", "disruptionBudget")}
Objects = dict[tuple[str, str], dict[str, Any]]


def objects(values: dict[str, Any]) -> Objects:
    """The objects by kind and name."""
    found = render(CHART, values)
    texts = [text for name, text in found.items() if name.endswith(".yaml")]
    parts = [each for text in texts for each in yaml.safe_load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in parts}


@pytest.fixture(scope="module")
def complete() -> Objects:
    return objects(ALL)


def test_each_object_is_valid(complete: Objects) -> None:
    assert {name for kind, name in complete if kind == "Deployment"} == {"crestline", "crestline-relay"}
    assert {kind for kind, _ in objects({})} == {
        "Deployment", "Service", "Ingress", "NetworkPolicy", "PodDisruptionBudget",
    }  # fmt: skip
    assert {kind for kind, _ in objects(NOTHING)} == {"Deployment", "Service"}
    for (kind, _), each in complete.items():
        if kind != "ServiceMonitor":  # a kind of the Prometheus operator, which Kubernetes' schemas do not have
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": 0}, "replicas"),
        ({"secret": {"name": ""}}, "secret/name"),
        ({"ingres": {}}, "ingres"),
        ({"networkPolicy": {"egressPorts": ["ssh"]}}, "egressPorts"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        render(CHART, values)


def test_each_object_means_the_same_pods_and_ports(complete: Objects) -> None:
    for name in ("crestline", "crestline-relay"):
        pod = complete["Deployment", name]["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        labels = pod["metadata"]["labels"]
        service, policy = complete["Service", name], complete["NetworkPolicy", name]
        assert complete["Deployment", name]["spec"]["selector"]["matchLabels"] == labels
        assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == labels
        ports = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
        assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        (init,) = pod["spec"]["initContainers"]
        assert {mount["name"] for each in (init, container) for mount in each["volumeMounts"]} == volumes
        assert init["image"] == container["image"] == "registry.example.org/hpc/crestline:1.2.3"
    gateway = complete["Service", "crestline"]
    assert (
        complete["PodDisruptionBudget", "crestline"]["spec"]["selector"]["matchLabels"] == gateway["spec"]["selector"]
    )
    monitor = complete["ServiceMonitor", "crestline"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= gateway["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in gateway["spec"]["ports"]}
    paths = complete["Ingress", "crestline"]["spec"]["rules"][0]["http"]["paths"]
    backends = {path["path"]: path["backend"]["service"] for path in paths}
    assert backends == {
        "/relay": {"name": "crestline-relay", "port": {"name": "agents"}},
        "/": {"name": "crestline", "port": {"name": "http"}},
    }


def test_the_containers_are_those_of_the_containerfile(complete: Objects) -> None:
    file = (CHART.parent / "Containerfile").read_text()
    pod = complete["Deployment", "crestline"]["spec"]["template"]["spec"]
    (container,), (relay,) = (
        complete["Deployment", name]["spec"]["template"]["spec"]["containers"]
        for name in ("crestline", "crestline-relay")
    )
    assert pod["securityContext"]["runAsUser"] == int(re.findall(r"--uid (\d+)", file)[0])
    assert container["ports"][0]["containerPort"] == int(re.findall(r"EXPOSE (\d+)", file)[0])
    assert re.findall(r"^VOLUME (.*)$", file, re.MULTILINE)[0] in {
        mount["mountPath"] for mount in container["volumeMounts"]
    }
    assert relay["command"][0] == "/opt/crestline/bin/crestline"
    group = get_command(app)
    for name, words in {"serve": container["args"], "relay": relay["command"][2:]}.items():
        command = group.get_command(Context(group), name)
        options = {option for each in command.params for option in each.opts}
        assert {word for word in words if str(word).startswith("--")} <= options
    routes = {route.path for route in create_app(GatewayRuntime(GatewayConfig())).routes}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in routes
        assert container[probe]["httpGet"]["port"] == "http"


def test_the_containers_may_do_nothing_that_they_do_not_need(complete: Objects) -> None:
    for name in ("crestline", "crestline-relay"):
        pod = complete["Deployment", name]["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for each in (*pod["containers"], *pod["initContainers"]):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
