"""A credential that no header can carry, or that lies in an open file, shows in no error and in no log."""

from __future__ import annotations

import logging
import socketserver
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from crestline.client import Policy, RetryPolicy, Site, connect
from crestline.gateway.authorization.openfga import OpenFga
from crestline.gateway.config import OpenFgaConfig
from crestline.gateway.hosts.ssh.credentials import CertificateService
from crestline.model import AuthenticationError, CrestlineError
from crestline.private_files import warn_if_open
from crestline_jupyterhub.reaper import owned_attempts

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
    policy = Policy(retry=RetryPolicy(attempts=0, budget=30))
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
