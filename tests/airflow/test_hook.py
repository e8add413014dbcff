"""From a connection to a system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowNotFoundException

from crestline.client import register_site
from crestline.model import AuthenticationError, ConfigError, SystemNotFoundError
from crestline.testing.firecrest import running
from crestline_airflow import get_provider_info
from crestline_airflow.hooks import FirecRESTHook
from harness.gateway import RunningGateway


def test_blocking(gateway: RunningGateway, define: Any) -> None:
    define(gateway)
    with FirecRESTHook().get_conn() as system:
        assert system.name == "local"
        assert system.default_workdir().startswith(str(gateway.home))


@pytest.mark.anyio
async def test_async(gateway: RunningGateway, define: Any) -> None:
    define(gateway)
    async with await FirecRESTHook().aget_conn() as system:
        assert system.name == "local"


def test_the_button(gateway: RunningGateway, define: Any) -> None:
    define(gateway)
    works, message = FirecRESTHook().test_connection()
    assert works
    assert gateway.url in message


def test_wrong_secret(gateway: RunningGateway, define: Any) -> None:
    define(gateway, password="not-the-secret")
    works, message = FirecRESTHook().test_connection()
    assert not works
    assert "client id and secret" in message
    assert "not-the-secret" not in message
    with pytest.raises(AuthenticationError), FirecRESTHook().get_conn():
        pass


def test_wrong_system(gateway: RunningGateway, define: Any) -> None:
    define(gateway)
    with pytest.raises(SystemNotFoundError, match="nosuch"), FirecRESTHook().get_conn("nosuch"):
        pass


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"host": ""}, "no gateway URL"),
        ({"host": "example.org"}, "no gateway URL"),
        ({"extra": {}}, "no credentials"),
        ({"extra": {"tokenurl": "https://example.org"}}, "tokenurl"),
        ({"extra": {"token_url": []}}, "token_url"),
        ({"host": "http://gw", "schema": "https"}, "scheme http in Host and https in Schema"),
        ({"host": "https://gw:1", "port": 2}, "port 1 in Host and 2 in Port"),
        ({"host": "https://gw/v2", "schema": "v3"}, "path /v2 in Host and /v3 in Schema"),
        ({"host": "https://gw:port"}, "invalid gateway URL"),
        ({"host": "https://gw?x=1"}, "invalid gateway URL"),
        ({"host": "ftp://gw"}, "no gateway URL"),
        ({"host": "https://"}, "no gateway URL"),
        ({"host": "https://me:hunter2@gw"}, "credentials in Host"),
        ({"extra": {"auth_url": "https://a", "token_url": "https://b"}}, "auth_url and token_url"),
        ({"host": "https://gw", "port": 70000}, "invalid gateway URL"),
        ({"host": "https://gw:0"}, "invalid gateway URL"),
        ({"host": "https://gw", "port": -1}, "invalid gateway URL"),
        ({"host": "https://gw /v2"}, "invalid gateway URL"),
        ({"host": "https://gw", "schema": "v2?x=1"}, "invalid gateway URL"),
        ({"host": "https://gw", "schema": "v2#x"}, "invalid gateway URL"),
        ({"extra": "[1]"}, "JSON, but not an object"),
        ({"extra": {"url": "https://another"}}, "url in the extra and Host differ"),
        ({"extra": {"client_secret": "hunter2"}}, "client_secret in the extra and Password differ"),
        ({"extra": {"system": ["a", "b"]}}, "system"),
    ],
)
def test_a_connection_that_lacks_something(
    gateway: RunningGateway, define: Any, fields: dict[str, Any], complaint: str
) -> None:
    define(gateway, **fields)
    works, message = FirecRESTHook().test_connection()
    assert not works
    assert complaint in message
    assert "hunter2" not in message
    with pytest.raises(ConfigError), FirecRESTHook().get_conn():
        pass


def test_a_connection_without_a_system_says_what_there_is(gateway: RunningGateway, define: Any) -> None:
    define(gateway, extra={"token_url": gateway.token_url})
    works, message = FirecRESTHook().test_connection()
    assert works
    assert "serves local" in message


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        ("firecrest://https://id:secret@gw:8443/firecrest/v2", "https://gw:8443/firecrest/v2"),
        ("firecrest://https://id:secret@gw", "https://gw"),
        ("firecrest://https://id:secret@gw/v2/", "https://gw/v2"),
        ("firecrest://id:secret@gw:8443/https", "https://gw:8443"),
        ("firecrest://id:secret@https%3A%2F%2Fgw%2FFire%2Fv2", "https://gw/Fire/v2"),
        ("firecrest://https://id:secret@[::1]:8443/v2", "https://[::1]:8443/v2"),
        ("firecrest://HTTPS://id%40realm:s%2Fec%40r%3Aet@gw:8443/v2", "https://gw:8443/v2"),
        ("firecrest://id:secret@[::1]:8443/https", "https://[::1]:8443"),
        ({"host": "::1/v2", "schema": "https", "port": "8443"}, "https://[::1]:8443/v2"),
        ({"host": "https://gw:8443/v2"}, "https://gw:8443/v2"),
        ({"host": "https://gw/v2", "port": 8443}, "https://gw:8443/v2"),
        ({"host": "https://gw:8443/v2", "port": 8443, "schema": "https"}, "https://gw:8443/v2"),
        ({"host": "gw", "schema": "https", "port": 8443}, "https://gw:8443"),
        ({"host": "gw/v2", "schema": "http"}, "http://gw/v2"),
    ],
)
def test_where_the_gateway_is(monkeypatch: pytest.MonkeyPatch, connection: Any, url: str) -> None:
    text = connection if isinstance(connection, str) else json.dumps({"conn_type": "firecrest", **connection})
    monkeypatch.setenv("AIRFLOW_CONN_GW", text)
    assert FirecRESTHook("gw").site().url == url


def test_numbers_in_the_extra_are_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"account": 1234, "system": 5, "job_page": 5, "verify": "0"}
    monkeypatch.setenv("AIRFLOW_CONN_GW", json.dumps({"conn_type": "firecrest", "host": "https://gw", "extra": extra}))
    hook = FirecRESTHook("gw")
    assert (hook.site().account, hook.site().system, hook.site().verify) == ("1234", "5", False)
    with pytest.raises(ConfigError, match="job_page"):
        hook.job_page("a", "1")


def test_a_uri_survives_airflows_own_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Connection

    extra = '{"auth_url": "https://gw/token", "verify": "false"}'
    given = Connection(
        conn_id="gw", conn_type="firecrest", host="https://gw", port=8443, schema="v2", login="id", extra=extra
    )
    monkeypatch.setenv("AIRFLOW_CONN_GW", given.get_uri())
    site = FirecRESTHook("gw").site()
    assert (site.url, site.token_url, site.verify) == ("https://gw:8443/v2", "https://gw/token", False)


@pytest.mark.parametrize(
    ("visible", "name", "value"),
    [
        ("auth_url", "token_url", "https://gw/token"),
        ("auth_command", "token_command", ["fetch-it"]),
        ("credential_file", "client_secret_file", "/etc/firecrest"),
        ("key_header", "api_key_header", "X-Key"),
    ],
)
def test_what_is_not_secret_has_a_name_that_is_not_masked(
    monkeypatch: pytest.MonkeyPatch, visible: str, name: str, value: Any
) -> None:
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    monkeypatch.setenv("AIRFLOW__FIRECREST__ALLOW_LOCAL_CREDENTIALS", "True")
    assert not should_hide_value_for_key(visible)
    for given in (visible, name):  # the other name, too, is taken
        connection = {"conn_type": "firecrest", "host": "https://gw", "extra": {given: value}}
        monkeypatch.setenv("AIRFLOW_CONN_GW", json.dumps(connection))
        assert getattr(FirecRESTHook("gw").site(), name) == value


def test_the_form_masks_secrets_and_nothing_else() -> None:
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    [form] = get_provider_info()["connection-types"]
    for name, field in form["conn-fields"].items():
        assert should_hide_value_for_key(name) == (field["schema"].get("format") == "password"), name


def test_a_refresh_token(define: Any) -> None:
    with running() as plain:
        token = plain.sign_in()["refresh_token"]
        define(plain, extra={"token_url": plain.token_url, "refresh_token": token})
        assert FirecRESTHook().test_connection()[0]
        with FirecRESTHook().get_conn() as system:
            assert system.default_workdir() == str(plain.home)


def test_an_api_key(gateway: RunningGateway, define: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    define(gateway, login=None, password=None, extra={"api_key": "key-of-somebody"})
    sent = []
    monkeypatch.setattr(
        "crestline.client.auth.ApiKey.auth_headers", lambda self: sent.append(self._headers) or _headers(gateway)
    )
    with FirecRESTHook().get_conn() as system:
        assert system.name == "local"
    assert sent[0] == {"X-API-Key": "key-of-somebody"}


async def _headers(gateway: RunningGateway) -> dict[str, str]:
    return {"Authorization": f"Bearer {gateway.token()}"}


def test_a_token_command_needs_the_deployments_word(
    gateway: RunningGateway, define: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a token").write_text(gateway.token())
    define(gateway, login=None, password=None, extra={"token_command": f"cat '{tmp_path}/a token'"})
    works, message = FirecRESTHook().test_connection()
    assert not works
    assert "AIRFLOW__FIRECREST__ALLOW_LOCAL_CREDENTIALS" in message
    monkeypatch.setenv("AIRFLOW__FIRECREST__ALLOW_LOCAL_CREDENTIALS", "True")
    assert FirecRESTHook().test_connection()[0]
    define(gateway, extra={"token_command": "cat 'unended"})
    with pytest.raises(ConfigError, match="not a command line"), FirecRESTHook().get_conn():
        pass


def test_secrets_of_a_connection_are_masked() -> None:
    """Airflow masks what is called a secret; these are the names that we chose."""
    from airflow.sdk._shared.secrets_masker import should_hide_value_for_key

    assert all(should_hide_value_for_key(name) for name in ("password", "refresh_token", "api_key"))


def test_without_a_connection_the_sites_file_holds(gateway: RunningGateway) -> None:
    client_id, secret = gateway.client
    register_site(
        "local",
        url=gateway.url,
        token_url=gateway.token_url,
        client_id=client_id,
        client_secret=secret,
        system=gateway.system,
    )
    with FirecRESTHook().get_conn() as system:
        assert system.gateway_url == gateway.url
        assert system.name == "local"


def test_without_a_connection_the_variables_hold(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    client_id, secret = gateway.client
    monkeypatch.setenv("FIRECREST_URL", gateway.url)
    monkeypatch.setenv("AUTH_TOKEN_URL", gateway.token_url)
    monkeypatch.setenv("FIRECREST_CLIENT_ID", client_id)
    monkeypatch.setenv("FIRECREST_CLIENT_SECRET", secret)
    with FirecRESTHook().get_conn() as system:
        assert system.name == "local"


def test_another_connection_than_the_default_must_exist(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRECREST_URL", gateway.url)
    with pytest.raises(AirflowNotFoundException, match="alps"), FirecRESTHook("alps").get_conn():
        pass
    assert FirecRESTHook("alps").test_connection()[0] is False


def test_one_token_for_one_identity(define: Any) -> None:
    with running() as plain:
        define(plain)
        for _ in range(3):
            with FirecRESTHook().get_conn():
                pass
        assert plain.count("POST", "/token") == 1


def test_secrets_stay_out_of_sight(gateway: RunningGateway, define: Any) -> None:
    define(gateway)
    hook = FirecRESTHook()
    with hook.get_conn() as system:
        shown = f"{hook!r} {system!r} {vars(hook)!r} {json.dumps(vars(hook), default=repr)}"
    assert gateway.client[1] not in shown
