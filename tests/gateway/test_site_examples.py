"""`examples/gateway`: each file is what the program it is for accepts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from crestline.gateway.config import load_config
from harness.certificates import Authority, environment_for_downloads
from harness.command import CRESTLINE, Command
from harness.gateway import GatewayProcess
from harness.helm import render
from harness.nginx import nginx
from harness.parts import require
from harness.ports import free_port
from harness.waiting import until_blocking

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "gateway"
PATIENCE = 600


def test_the_configuration_is_one(tmp_path: Path) -> None:
    config = load_config(FOLDER / "gateway.toml")
    assert config.public_url == "https://hpc.example.org/firecrest"
    assert config.systems["cluster"].scheduler["type"] == "slurm"
    commented = re.findall(r'^# (database = "[^"]+")$', (FOLDER / "gateway.toml").read_text(), re.MULTILINE)
    assert tomllib.loads(commented[0])["database"].startswith("postgresql://")


def test_doctor_reads_it_and_names_what_a_machine_lacks(tmp_path: Path) -> None:
    text = (FOLDER / "gateway.toml").read_text().replace("/var/lib/crestline", str(tmp_path / "home"))
    text = text.replace("/etc/crestline/known_hosts", str(tmp_path / "known_hosts"))
    text = text.replace("https://auth.example.org", "http://127.0.0.1:9")
    (tmp_path / "gateway.toml").write_text(text)
    (tmp_path / "known_hosts").touch()
    lines = Command(tmp_path)("doctor", "--json", "--config", "gateway.toml", code=1).stdout.splitlines()
    checks = {check["name"]: check for check in map(json.loads, lines)}
    assert checks["configuration"]["verdict"] == "ok"
    assert checks["public_url"]["verdict"] == "ok"
    assert checks["identity provider http://127.0.0.1:9/realms/hpc"]["verdict"] == "fail"


def test_the_unit_is_one(tmp_path: Path) -> None:
    require(shutil.which("systemd-analyze") is not None, "there is no `systemd-analyze`: install Debian's `systemd`")
    text = (FOLDER / "crestline.service").read_text()
    unit = tmp_path / "crestline.service"
    unit.write_text(text.replace("/opt/crestline/bin/crestline", str(CRESTLINE)))
    port = shutil.copy(FOLDER / "crestline.socket", tmp_path)
    verified = subprocess.run(["systemd-analyze", "verify", unit, port], capture_output=True, text=True, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "crestline." in line]
    assert verified.returncode == 0, verified.stderr
    assert complaints == []
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout[-500:]


@pytest.mark.parametrize("file", ["crestline.service", "Containerfile"])
def test_the_command_lines_are_understood(tmp_path: Path, file: str) -> None:
    """They fail by the one thing that a test lacks: the configuration file."""
    text = (FOLDER / file).read_text()
    if file == "Containerfile":
        words = [
            word for line in re.findall(r"^(?:ENTRYPOINT|CMD) (.*)$", text, re.MULTILINE) for word in json.loads(line)
        ]
    else:
        words = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)[0].split()
    words = [word.replace("/var/lib/crestline", str(tmp_path / "home")) for word in words]
    assert words[0] == "/opt/crestline/bin/crestline"
    line = Command(tmp_path).refused(*words[1:], code=78)
    assert "/etc/crestline/gateway.toml" in line


def test_the_proxy_passes_what_the_gateway_needs(tmp_path: Path) -> None:
    """A real nginx with these settings, but for addresses and certificate, and the command line on its far side."""
    port = free_port()
    url = f"https://127.0.0.1:{port}/firecrest"
    authority = Authority(tmp_path)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    authority.issue(certificate, key)
    gateway = GatewayProcess(tmp_path / "home", free_port(), "--public-url", url)
    gateway.start()
    text = (FOLDER / "nginx.conf").read_text()
    for theirs, ours in {
        "server 127.0.0.1:8080;": f"server {gateway.url.removeprefix('http://')};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/letsencrypt/live/hpc.example.org/fullchain.pem": str(certificate),
        "/etc/letsencrypt/live/hpc.example.org/privkey.pem": str(key),
    }.items():
        assert text.count(theirs) == 1
        text = text.replace(theirs, ours)
    (tmp_path / "nginx").mkdir()
    command = Command(tmp_path, SSL_CERT_FILE=str(authority.file))
    command.sites_file.write_bytes((tmp_path / "home-sites.toml").read_bytes())
    command.sites_file.chmod(0o600)
    assert url in command.sites_file.read_text()
    content = os.urandom(20_000_000)
    (tmp_path / "source").write_bytes(content)
    try:
        with nginx(tmp_path / "nginx", text, port) as log:
            assert command("run", "--", "echo", "through").stdout == b"through\n"
            command("cp", "source", ":large")
            command("cp", ":large", "back")
            assert (tmp_path / "back").read_bytes() == content
            (job,) = command.json("ps", "--window", "1h")
            assert job["state"] == "completed"
            answered = {line.split('"')[2].split()[0] for line in log.read_text().splitlines()}
    finally:
        gateway.stop()
    assert not answered & {"413", "502", "504"}, "answers of the proxy's own"


def docker(*arguments: str | Path) -> str:
    # The classic builder needs no plug-in.
    environment = os.environ | {"DOCKER_BUILDKIT": "0"}
    done = subprocess.run(["docker", *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of the Containerfile."""
    require(shutil.which("docker") is not None, "there is no `docker`")
    require(sys.version_info[:2] == (3, 11), "the wheels of this Python do not fit Debian 12's 3.11")
    wheels = tmp_path_factory.mktemp("image") / "wheels"
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", wheels]
    command = [*wheel, f"{ROOT / 'core'}[gateway,postgresql,s3]"]
    subprocess.run(command, check=True, timeout=PATIENCE, env=environment_for_downloads())
    # The host's network is the one that can reach Debian's packages.
    image = docker("build", "--quiet", "--network", "host", "--file", FOLDER / "Containerfile", wheels)
    yield image
    docker("image", "rm", "--force", image)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_container_file_is_built_and_serves(tmp_path: Path, image: str) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('public_url = "https://hpc.example.org/firecrest"\n')
    mount = f"{config}:/etc/crestline/gateway.toml:ro"
    container = docker("run", "--detach", "--publish", "127.0.0.1::8080", "--volume", mount, image)
    try:
        url = f"http://{docker('port', container, '8080')}"
        until_blocking(lambda: answers(f"{url}/status/readiness"), PATIENCE)
        assert httpx.get(f"{url}/status/liveness").status_code == 200
        discovery = httpx.get(f"{url}/.well-known/openid-configuration").json()
        assert discovery["token_endpoint"] == "https://hpc.example.org/firecrest/oauth2/token"
        probe = re.findall(r"^HEALTHCHECK CMD (.*)$", (FOLDER / "Containerfile").read_text(), re.MULTILINE)[0]
        docker("exec", container, *json.loads(probe))
        assert docker("exec", container, "id", "--user", "--name") == "crestline"
        docker("stop", "--time", "60", container)
        state = json.loads(docker("inspect", "--format", "{{json .State}}", container))
        assert state["ExitCode"] in (0, 143), "it left by itself at SIGTERM"
    finally:
        docker("rm", "--force", "--volumes", container)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_containers_run_as_the_chart_says(tmp_path: Path, image: str) -> None:
    (text,) = (each for name, each in render(FOLDER / "chart", {}).items() if name.endswith("/deployment.yaml"))
    pod = yaml.safe_load(text)["spec"]["template"]["spec"]
    user = f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    places = {name: tmp_path / name for name in ("secret", "state", "tmp")}
    for each in places.values():
        each.mkdir()
        each.chmod(0o777)  # as a fresh emptyDir is
    (places["secret"] / "gateway.toml").write_text(
        'host = "0.0.0.0"\nallow_plain_http = true\npublic_url = "https://hpc.example.org"\n'
    )

    def run(container: dict[str, Any], *options: str) -> str:
        confined = ["--user", user, "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        mounts = [
            f"--volume={places[each['name']] / each.get('subPath', '')}:{each['mountPath']}"
            f"{':ro' if each.get('readOnly') else ''}"
            for each in container["volumeMounts"]
        ]
        program, *words = container.get("command", [""])
        entry = [f"--entrypoint={program}"] if program else []
        return docker("run", *options, *confined, *mounts, *entry, image, *words, *container.get("args", []))

    run(pod["initContainers"][0], "--rm")
    container = run(pod["containers"][0], "--detach", "--publish", "127.0.0.1::8080")
    try:
        url = f"http://{docker('port', container, '8080')}"
        until_blocking(lambda: answers(f"{url}/status/readiness"), PATIENCE)
        assert docker("exec", container, "stat", "-c", "%a %u", "/etc/crestline/gateway.toml") == "600 10001"
    finally:
        docker("rm", "--force", "--volumes", container)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
