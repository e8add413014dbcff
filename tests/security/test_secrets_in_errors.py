"""A credential that no header can carry, or that lies in an open file, shows in no error and in no log."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crestline.cli import app as cli
from crestline.client import Policy, RetryPolicy, Site, connect, connect_blocking
from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import OpenFgaConfig
from crestline.gateway.hosts.ssh.credentials import CertificateService
from crestline.model import AuthenticationError, CrestlineError
from crestline.private_files import warn_if_open, write_private
from crestline.relay.tokens import HubKey
from crestline_airflow.hooks import FirecRESTHook
from crestline_gitlab_runner import commands as gitlab
from crestline_jupyterhub.reaper import owned_attempts
from crestline_reframe import options as reframe_options

pytestmark = pytest.mark.anyio

MARK = "S3cretMark"
BAD = [f"{MARK}\nx", f"{MARK}é", f"{MARK}\x00", f"{MARK}\r\nX: y", f"\x7f{MARK}", f"{MARK}\udcff"]


class _Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(65536)


@pytest.fixture
def url() -> Iterator[str]:
    """Takes connections and answers nothing; the libraries look at their headers only then."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Silent) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


async def _client(url: str, **credentials: str) -> None:
    policy = Policy(retry=RetryPolicy(attempts=0, total_timeout=30))
    async with connect(Site(url=url, system="s", **credentials), policy=policy) as system:  # type: ignore[arg-type]
        await system.jobs()


async def _openfga(url: str, bad: str, path: Path) -> None:
    (path / "token").write_bytes(bad.encode(errors="surrogateescape"))
    asking = OpenFga(OpenFgaConfig(url=url, store_id="x", token_file=str(path / "token")))
    try:
        await asking.allows("alice", "s")
    finally:
        await asking.close()


async def _certificates(url: str, bad: str, _: Path) -> None:
    service = CertificateService(url, token=bad)
    try:
        await service.credentials("alice")
    finally:
        await service.close()


CALLERS: dict[str, Callable[[str, str, Path], Awaitable[object]]] = {
    "token": lambda url, bad, _: _client(url, token=bad),
    "API key": lambda url, bad, _: _client(url, api_key=bad),
    "openfga": _openfga,
    "certificates": _certificates,
    "hub": lambda url, bad, _: owned_attempts(url, bad),
}


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_credential_that_no_header_carries_is_not_repeated(
    caller: str, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for bad in BAD:
        with pytest.raises(CrestlineError) as caught:
            await CALLERS[caller](url, bad, tmp_path)
        assert MARK not in "".join(traceback.format_exception(caught.value)), bad
        assert MARK not in caplog.text, bad
        if caller in ("token", "API key"):
            assert isinstance(caught.value, AuthenticationError)


class _Echo(BaseHTTPRequestHandler):
    """Refuses each request, and repeats it in its status line, in its headers and in its body."""

    disable_nagle_algorithm = True
    protocol_version = "HTTP/1.1"
    status = 401

    def do_GET(self) -> None:
        said = (
            f"{self.path} {dict(self.headers)} {self.rfile.read(int(self.headers.get('Content-Length', 0))).decode()}"
        )
        names = ("message", "error", "error_description", "detail", "title")
        content = json.dumps({**dict.fromkeys(names, said), "causedBy": [said], "errorType": "error"}).encode()
        self.send_response(self.status, said)
        self.send_header("WWW-Authenticate", said)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the name is the library's

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


SECRET = f"{MARK}-0123/456"
URLS = [
    f"http://me:{SECRET}@127.0.0.1",
    f"http://me:{MARK}@[::1",
    f"http://me:{MARK}@ex\u2100mple.org",
    f"http://{MARK}@",
]


def _ask(url: str, api: str = "firecrest", **credentials: str) -> None:
    policy = Policy(retry=RetryPolicy(attempts=0, total_timeout=30))
    with connect_blocking(Site(url=url, api=api, system="s", **credentials), policy=policy) as system:  # type: ignore[arg-type]
        system.jobs()


def _command(echo: str, monkeypatch: pytest.MonkeyPatch, command: str = "ps", **variables: str) -> None:
    for name, value in {"FIRECREST_URL": echo, "FIRECREST_SYSTEM": "s", **variables}.items():
        monkeypatch.setenv(name, value)
    raise SystemExit(cli.run([command]))


def _driver(echo: str, monkeypatch: pytest.MonkeyPatch, place: Path, *, of_the_job: bool) -> None:
    response = {"id": 1, "token": SECRET, "git_info": {"repo_url": f"http://gitlab-ci-token:{SECRET}@gitlab.example"}}
    (place / "response").write_text(json.dumps(response))
    secret = "" if of_the_job else f'client_id = "c"\nclient_secret = "{SECRET}"\n'
    gateway = f'url = "{echo}"\nsystem = "s"\ntoken_url = "{echo}/token"\nallow_job_credentials = true\n{secret}'
    write_private(place / "driver.toml", f'[gateway]\n{gateway}[recovery]\nstate_dir = "{place}"\n'.encode())
    monkeypatch.setenv("JOB_RESPONSE_FILE", str(place / "response"))
    if of_the_job:
        monkeypatch.setenv("CUSTOM_ENV_F7T_CLIENT_ID", "c")
        monkeypatch.setenv("CUSTOM_ENV_F7T_CLIENT_SECRET", SECRET)
    raise SystemExit(gitlab.main(["config", "-c", str(place / "driver.toml")]))


def _hook(monkeypatch: pytest.MonkeyPatch, **connection: object) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ECHO", json.dumps({"conn_type": "firecrest", **connection}))
    works, said = FirecRESTHook("echo").test_connection()
    assert not works
    print(said)
    with FirecRESTHook("echo").get_conn("s") as system:
        system.jobs()


FAILING: dict[str, Callable[[str, pytest.MonkeyPatch, Path], object]] = {
    "token": lambda echo, *_: _ask(echo, token=SECRET),
    "API key": lambda echo, *_: _ask(echo, api_key=SECRET),
    "API key in a header of its own": lambda echo, *_: _ask(echo, api_key=SECRET, api_key_header="X-Odd"),
    "IRI": lambda echo, *_: _ask(echo, "iri", token=SECRET),
    "client secret": lambda echo, *_: _ask(echo, token_url=echo, client_id="c", client_secret=SECRET),
    "refresh token": lambda echo, *_: _ask(echo, token_url=echo, client_id="c", refresh_token=SECRET),
    "command, token": lambda echo, patch, _: _command(echo, patch, FIRECREST_TOKEN=SECRET),
    "command, API key": lambda echo, patch, _: _command(echo, patch, FIRECREST_API_KEY=SECRET),
    "command, client": lambda echo, patch, _: _command(
        echo, patch, AUTH_TOKEN_URL=echo, FIRECREST_CLIENT_ID="c", FIRECREST_CLIENT_SECRET=SECRET
    ),
    "GitLab driver": lambda echo, patch, place: _driver(echo, patch, place, of_the_job=False),
    "GitLab job": lambda echo, patch, place: _driver(echo, patch, place, of_the_job=True),
    "Airflow, client": lambda echo, patch, _: _hook(
        patch, host=echo, login="c", password=SECRET, extra={"auth_url": echo, "system": "s"}
    ),
    "Airflow, API key": lambda echo, patch, _: _hook(patch, host=echo, extra={"api_key": SECRET, "system": "s"}),
    "Airflow, port": lambda _, patch, __: _hook(patch, host=f"http://me:{SECRET}@gateway", login="c", password="x"),
    "Airflow, path": lambda _, patch, __: _hook(patch, host=f"http://me:1/{SECRET}@gateway", schema="v2", login="c"),
    **{
        f"{which} {number}": call
        for number, url in enumerate(URLS)
        for which, call in (
            ("URL", lambda *_, url=url: _ask(url, token="t")),
            ("token URL", lambda echo, *_, url=url: _ask(echo, token_url=url, client_id="c", client_secret="x")),
            ("ReFrame", lambda *_, url=url: reframe_options.read({"url": url, "client_id": "c"}).target()),
            ("doctor", lambda _, patch, __, url=url: _command(url, patch, "doctor", FIRECREST_TOKEN="t")),
            ("command, URL", lambda _, patch, __, url=url: _command(url, patch, FIRECREST_TOKEN="t")),
        )
    },
    "relay": lambda _, __, place: HubKey(b"k" * 32).session(f"eyJ.{SECRET}.x"),
    "relay, key": lambda _, __, place: HubKey(MARK.encode()),
}


@pytest.mark.parametrize("status", [401, 404])
def test_what_fails_tells_no_secret(
    status: int,
    echo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each place of a secret, against a server that repeats all that it is sent, with logs at DEBUG."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(_Echo, "status", status)
    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    for where, fails in FAILING.items():
        with monkeypatch.context() as patch, pytest.raises((Exception, SystemExit)) as caught:
            fails(echo, patch, tmp_path)
        assert not isinstance(caught.value, SystemExit) or caught.value.code, where
        assert MARK not in "".join(traceback.format_exception(caught.value)), where
        assert MARK not in " ".join(getattr(caught.value, "details", ())), where
        assert MARK not in "".join(capfd.readouterr()), where
        assert MARK not in caplog.text, where
        assert not [path for path in tmp_path.iterdir() if path.name.startswith("job-")], where


async def test_a_secret_that_others_may_read_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """But for mounts of Kubernetes, whose modes are the cluster's."""
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..data").symlink_to("..2026")
    for name, mode in (("..2026/mounted", 0o644), ("open", 0o644), ("closed", 0o600)):
        (tmp_path / name).write_text(MARK)
        (tmp_path / name).chmod(mode)
    (tmp_path / "mounted").symlink_to("..data/mounted")
    for name in ("mounted", "closed", "open", "open"):
        site = Site(url="https://x", token_url="https://x/t", client_id="c", client_secret_file=str(tmp_path / name))
        site.authorizer()
    (message,) = [each.getMessage() for each in caplog.records if "may read" in each.getMessage()]
    assert f"{tmp_path}/open" in message
    assert MARK not in caplog.text
    warn_if_open.cache_clear()
