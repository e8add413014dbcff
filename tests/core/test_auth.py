"""Getting tokens: life and margins, single flight, rotation, and what never shows."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import jwt
import pytest

from crestline.client.auth import ApiKey, ClientCredentials, RefreshToken, StaticToken, TokenCommand, TokenFile
from crestline.client.auth.token import Token, TokenSource, make_token, margin
from crestline.model import AuthenticationError, ConfigError, GatewayUnavailableError
from crestline.testing.firecrest import PlainFirecrest, running

pytestmark = pytest.mark.anyio


@pytest.fixture
def plain() -> Iterator[PlainFirecrest]:
    with running() as plain:
        yield plain


def credentials(plain: PlainFirecrest, secret: str | None = None) -> ClientCredentials:
    return ClientCredentials(plain.token_url, plain.client_id, secret or plain.client_secret)


def refreshing(plain: PlainFirecrest, file: Path, first: str) -> RefreshToken:
    return RefreshToken(plain.token_url, plain.client_id, TokenFile(file, first), client_secret=plain.client_secret)


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(3600, 60), (300, 60), (180, 60), (120, 40), (90, 35), (60, 35), (40, 35), (30, 10)]
)
def test_margin(lifetime: float, seconds: float) -> None:
    assert margin(lifetime) == pytest.approx(seconds)


def test_a_token_is_used_only_while_the_server_will_take_it() -> None:
    token = Token("t", issued=1000.0, expires=1300.0)
    assert token.is_fresh(1239.0)
    assert not token.is_fresh(1240.5)
    assert Token("t", issued=1000.0).is_fresh(1e12)


def test_lifetime_from_the_token_itself() -> None:
    value = jwt.encode({"exp": 2000}, "0" * 32)
    assert make_token(value, 1000.0).expires == 2000.0
    assert make_token(value, 1000.0, 60).expires == 1060.0
    assert make_token("opaque", 1000.0).expires is None
    assert make_token("a.b.c", 1000.0).expires is None


async def test_client_credentials(plain: PlainFirecrest) -> None:
    headers = await credentials(plain).auth_headers()
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), options={"verify_signature": False})
    assert claims["preferred_username"] == plain.client_id


async def test_one_request_for_50_callers_in_all_loops_and_threads(plain: PlainFirecrest) -> None:
    plain.faults.delay(0.3, path="/token", count=None)
    answers: list[str] = []

    async def ask() -> None:
        answers.append((await credentials(plain).auth_headers())["Authorization"])

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask)

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    await many()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert len(answers) == 50
    assert len(set(answers)) == 1
    assert plain.count("POST", "/token") == 1


async def test_a_caller_that_gives_up_does_not_take_the_token_from_the_others(plain: PlainFirecrest) -> None:
    plain.faults.delay(0.3, path="/token", count=None)
    first = asyncio.create_task(credentials(plain).auth_headers())
    await asyncio.sleep(0)
    second = asyncio.create_task(credentials(plain).auth_headers())
    await asyncio.sleep(0)
    first.cancel()
    assert "Authorization" in await second
    assert plain.count("POST", "/token") == 1


async def test_a_refused_token_is_renewed_once(plain: PlainFirecrest) -> None:
    authorizer = credentials(plain)
    old = await authorizer.auth_headers()
    for _ in range(10):
        assert authorizer.refused(old)
    new = await authorizer.auth_headers()
    assert authorizer.refused(old)  # a late refusal of the old one
    assert await authorizer.auth_headers() == new
    assert plain.count("POST", "/token") == 2


async def test_an_expired_token_is_not_used(plain: PlainFirecrest) -> None:
    plain.settings.token_lifetime = 40
    authorizer = credentials(plain)
    first = await authorizer.auth_headers()
    assert await authorizer.auth_headers() == first
    source = authorizer._source
    assert source._token is not None
    source._token = Token(source._token.value, time.time() - 6, time.time() + 34)
    await authorizer.auth_headers()
    assert plain.count("POST", "/token") == 2


async def test_wrong_secret(plain: PlainFirecrest) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await credentials(plain, "not-the-secret").auth_headers()
    assert "not-the-secret" not in repr(caught.value) + str(caught.value)
    assert caught.value.hint


async def test_an_outage_of_the_token_endpoint_passes(plain: PlainFirecrest) -> None:
    plain.faults.fail(503, path="/token", count=2)
    assert "Authorization" in await credentials(plain).auth_headers()


async def test_no_token_endpoint(plain: PlainFirecrest) -> None:
    plain.faults.fail(500, path="/token", count=None)
    with pytest.raises(GatewayUnavailableError):
        await credentials(plain).auth_headers()
    plain.faults.reset()
    plain.faults.garble(path="/token", count=None)
    with pytest.raises(GatewayUnavailableError):
        await credentials(plain).auth_headers()


async def test_rotation_under_50_callers(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = tmp_path / "refresh.token"
    first = plain.sign_in()["refresh_token"]
    authorizer = refreshing(plain, file, first)
    answers: set[str] = set()

    async def ask() -> None:
        answers.add((await refreshing(plain, file, first).auth_headers())["Authorization"])

    for _ in range(3):
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(ask)
        assert len(answers) == 1
        authorizer.refused({"Authorization": answers.pop()})
    assert plain.count("POST", "/token") == 3
    assert oct(file.stat().st_mode & 0o777) == "0o600"


async def test_a_process_that_lost_the_race_reads_what_the_other_stored(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = tmp_path / "refresh.token"
    first = plain.sign_in()["refresh_token"]
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from crestline.client.auth import RefreshToken, TokenFile\n"
        "url, client, secret, file = sys.argv[1:]\n"
        "store = TokenFile(Path(file), sys.stdin.read())\n"
        "asyncio.run(RefreshToken(url, client, store, client_secret=secret).auth_headers())\n"
    )
    arguments = [sys.executable, "-c", script, plain.token_url, plain.client_id, plain.client_secret, str(file)]

    async def run() -> None:
        await anyio.run_process(arguments, input=first.encode())

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(run)
    assert plain.count("POST", "/token") == 4
    assert {seen.status for seen in plain.requests} == {200}


async def test_no_refresh_token_is_used_up_where_none_can_be_kept(plain: PlainFirecrest, tmp_path: Path) -> None:
    tmp_path.joinpath("file").touch()
    first = plain.sign_in()["refresh_token"]
    with pytest.raises(ConfigError):
        await refreshing(plain, tmp_path / "file" / "t", first).auth_headers()
    assert plain.count("POST", "/token") == 0
    await refreshing(plain, tmp_path / "t", first).auth_headers()


async def test_a_new_sign_in_wins_over_an_old_file(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = tmp_path / "refresh.token"
    await refreshing(plain, file, plain.sign_in()["refresh_token"]).auth_headers()
    file.write_text(file.read_text().splitlines()[0] + "\nspoilt\n")
    await refreshing(plain, file, plain.sign_in()["refresh_token"]).auth_headers()


async def test_a_used_up_refresh_token(plain: PlainFirecrest, tmp_path: Path) -> None:
    plain.faults.reject_refresh = True
    first = plain.sign_in()["refresh_token"]
    with pytest.raises(AuthenticationError, match="invalid_grant") as caught:
        await refreshing(plain, tmp_path / "t", first).auth_headers()
    assert "sign in again" in caught.value.hint
    assert first not in str(caught.value)


async def test_token_command(tmp_path: Path) -> None:
    count = tmp_path / "count"
    code = f"open({str(count)!r}, 'a').write('x'); print('opaque-token')"
    authorizer = TokenCommand([sys.executable, "-c", code])
    assert await authorizer.auth_headers() == {"Authorization": "Bearer opaque-token"}
    assert await authorizer.auth_headers() == {"Authorization": "Bearer opaque-token"}
    assert count.read_text() == "x"
    assert authorizer.refused({"Authorization": "Bearer opaque-token"})
    await authorizer.auth_headers()
    assert count.read_text() == "xx"


async def test_token_command_runs_where_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that changes its working directory, as ReFrame does, does not lose the command."""
    program = tmp_path / "token.sh"
    program.write_text("#!/bin/sh\necho opaque-token\n")
    program.chmod(0o700)
    monkeypatch.chdir(tmp_path)
    authorizers = TokenCommand(["./token.sh"]), TokenCommand(["sh", "token.sh"])
    monkeypatch.chdir("/")
    for authorizer in authorizers:
        assert await authorizer.auth_headers() == {"Authorization": "Bearer opaque-token"}


@pytest.mark.parametrize(
    "command", [["/no/such/program"], [sys.executable, "-c", "print('two words')"], [sys.executable, "-c", "exit(3)"]]
)
async def test_token_command_that_fails(command: list[str]) -> None:
    with pytest.raises(AuthenticationError) as caught:
        await TokenCommand(command).auth_headers()
    assert "two words" not in str(caught.value)


async def test_static_ones() -> None:
    assert await StaticToken("abc").auth_headers() == {"Authorization": "Bearer abc"}
    assert await ApiKey("abc", "X-Key").auth_headers() == {"X-Key": "abc"}
    assert not StaticToken("abc").refused({})
    assert not ApiKey("abc").refused({})


async def test_no_secret_in_repr(plain: PlainFirecrest, tmp_path: Path) -> None:
    shown = [
        repr(each) + each.identity
        for each in (
            StaticToken("s3cr3t-value"),
            ApiKey("s3cr3t-value"),
            ClientCredentials(plain.token_url, "me", "s3cr3t-value"),
            RefreshToken(plain.token_url, "me", TokenFile(tmp_path / "t", "s3cr3t-value")),
            TokenCommand(["get", "s3cr3t-value"]),
        )
    ]
    assert not any("s3cr3t-value" in text for text in shown)
    assert "secret" not in repr(Token("secret", 0.0, 1.0))


async def test_a_renewal_goes_on_in_a_forked_child() -> None:
    """A fork in the middle of a renewal leaves a promise that no thread of the child will keep."""
    begun = threading.Event()
    let_go = threading.Event()

    def fetch() -> Token:
        begun.set()
        assert let_go.wait(30)
        return Token("t", time.time(), None)

    source = TokenSource(fetch)
    waiting = asyncio.create_task(source.get())
    await asyncio.to_thread(begun.wait)
    child = os.fork()
    if child == 0:
        let_go.set()
        future = source._renewal()
        os._exit(0 if future.result(20).value == "t" else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)
    let_go.set()
    await waiting
    assert os.waitstatus_to_exitcode(status) == 0
