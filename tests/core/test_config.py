"""The sites file and the `FIRECREST_*` variables."""

from __future__ import annotations

import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import crestline
from crestline.client import find_site, load_sites, register_site, sites_file
from crestline.client.auth import ApiKey, ClientCredentials, RefreshToken, StaticToken, TokenCommand
from crestline.client.config import Site, site_from_environment
from crestline.model import ConfigError

TWO = """\
# kept
[sites.cscs]  # kept, too
url = "https://api.example.org/firecrest/v2"
token_url = "https://auth.example.org/token"
client_id = "me"
client_secret = "s3cr3t-value"
system = "daint"

[sites."my lab"]
url = "http://127.0.0.1:8080"
token = "s3cr3t-token"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config" / "sites.toml"
    path.parent.mkdir()
    monkeypatch.setenv("CRESTLINE_SITES", str(path))
    return path


def write(file: Path, text: str, mode: int = 0o600) -> None:
    file.write_text(text)
    file.chmod(mode)


def test_targets(file: Path) -> None:
    write(file, TWO)
    site, system = find_site("cscs")
    assert (site.name, site.url, system) == ("cscs", "https://api.example.org/firecrest/v2", "daint")
    assert find_site("eiger@cscs")[1] == "eiger"
    assert find_site("x@my lab")[0].token == "s3cr3t-token"
    for wrong in ("nowhere", "daint@nowhere", "@cscs", "daint@"):
        with pytest.raises(ConfigError) as caught:
            find_site(wrong)
        assert caught.value.hint


def test_default(file: Path) -> None:
    with pytest.raises(ConfigError):
        find_site()
    write(file, TWO)
    with pytest.raises(ConfigError, match="No default site"):
        find_site()
    write(file, 'default = "my lab"\n' + TWO)
    assert find_site()[0].name == "my lab"
    write(file, 'default = "gone"\n' + TWO)
    with pytest.raises(ConfigError):
        find_site()
    write(file, TWO[: TWO.index('[sites."my lab"')])
    assert find_site()[0].name == "cscs"


def test_environment_wins_over_the_default(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(file, TWO)
    monkeypatch.setenv("FIRECREST_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FIRECREST_SYSTEM", "lab")
    monkeypatch.setenv("FIRECREST_API_KEY", "k")
    site, system = find_site()
    assert (site.url, system) == ("http://127.0.0.1:1", "lab")
    assert isinstance(site.authorizer(), ApiKey)
    assert find_site("cscs")[0].name == "cscs"


@pytest.mark.parametrize(
    ("variables", "kind"),
    [
        ({"AUTH_TOKEN_URL": "u", "FIRECREST_CLIENT_ID": "i", "FIRECREST_CLIENT_SECRET": "s"}, ClientCredentials),
        ({"FIRECREST_TOKEN": "t"}, StaticToken),
        ({"FIRECREST_API_KEY": "k"}, ApiKey),
        ({"FIRECREST_TOKEN_COMMAND": "get-token --for 'me too'"}, TokenCommand),
    ],
)
def test_variables(variables: dict[str, str], kind: type) -> None:
    site = site_from_environment({"FIRECREST_URL": "http://h", **variables})
    assert site is not None
    assert isinstance(site.authorizer(), kind)
    assert site_from_environment(variables) is None


def test_a_broken_token_command() -> None:
    with pytest.raises(ConfigError):
        site_from_environment({"FIRECREST_URL": "u", "FIRECREST_TOKEN_COMMAND": "unclosed 'quote"})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_secrets_that_others_can_read(file: Path, mode: int) -> None:
    write(file, TWO, mode)
    with pytest.raises(ConfigError) as caught:
        load_sites()
    assert "chmod 600" in caught.value.hint


def test_a_file_without_secrets_may_be_public(file: Path) -> None:
    write(file, '[sites.a]\nurl = "http://h"\ntoken_command = ["get-token"]\n', 0o644)
    assert isinstance(load_sites()["a"].authorizer(), TokenCommand)


@pytest.mark.parametrize(
    "text",
    [
        "no toml",
        "[sites.a]\nurl = 3\n",
        "[sites.a]\n",
        '[sites.a]\nurl = "u"\nclient_secert = "s3cr3t-value"\n',
        '[sites.a]\nurl = "u"\ntoken = ["s3cr3t-value"]\n',
        'other = "x"\n',
    ],
)
def test_a_file_that_cannot_be_used(file: Path, text: str) -> None:
    write(file, text)
    with pytest.raises(ConfigError) as caught:
        load_sites()
    assert "s3cr3t-value" not in str(caught.value)
    with pytest.raises(ConfigError):
        register_site("b", url="http://h")
    assert file.read_text() == text


def test_no_secret_in_repr(file: Path) -> None:
    write(file, TWO)
    assert "s3cr3t" not in repr(load_sites()) + str(load_sites()) + f"{find_site('cscs')!r}"
    assert "s3cr3t" not in repr(crestline.connect("cscs"))


def test_credentials(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("value\n")
    both = {"url": "u", "token_url": "t", "client_id": "i"}
    assert isinstance(Site(**both, client_secret_file=str(secret)).authorizer(), ClientCredentials)
    assert isinstance(Site(**both, refresh_token="r").authorizer(), RefreshToken)
    for lacking in ({"url": "u"}, both, {"url": "u", "client_secret": "s"}, {"url": "u", "refresh_token": "r"}):
        with pytest.raises(ConfigError, match="no credentials"):
            Site(**lacking).authorizer()
    with pytest.raises(ConfigError):
        Site(**both, client_secret_file=str(tmp_path / "none")).authorizer()
    with pytest.raises(ConfigError):
        Site(url="u", ca_file=str(tmp_path / "none")).trust()


def test_relative_paths_of_a_sites_file_are_below_its_directory(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "secret").write_text("value")
    write(file, '[sites.cscs]\nurl = "u"\ntoken_url = "t"\nclient_id = "i"\nclient_secret_file = "secret"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRESTLINE_SITES", "config/sites.toml")
    named, site = sites_file(), find_site("cscs")[0]
    monkeypatch.chdir("/")
    assert named == file
    assert isinstance(site.authorizer(), ClientCredentials)


def test_register(file: Path) -> None:
    write(file, TWO)
    assert register_site("local", url="http://127.0.0.1:9", token="t", system=None) == file
    assert register_site("my lab", url="http://127.0.0.1:10") == file
    text = file.read_text()
    assert "# kept\n" in text
    assert "# kept, too\n" in text
    assert tomllib.loads(text)["sites"] == tomllib.loads(TWO)["sites"] | {
        "local": {"url": "http://127.0.0.1:9", "token": "t"},
        "my lab": {"url": "http://127.0.0.1:10"},
    }
    assert file.stat().st_mode & 0o777 == 0o600


def test_register_in_a_file_of_another_layout(file: Path) -> None:
    write(file, 'sites.a.url = "http://a"\ndefault = "a"\n')
    register_site("a", url="http://b")
    assert load_sites()["a"].url == "http://b"
    register_site("c", url="http://c")
    assert set(load_sites()) == {"a", "c"}
    assert find_site()[0].name == "a"


def test_register_makes_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRESTLINE_SITES", str(file.parent / "deeper" / "sites.toml"))
    register_site("a", url="http://a", client_secret="s")
    assert sites_file().stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError):
        register_site("b", url="http://b", no_such_field=1)
    with pytest.raises(ConfigError):
        register_site("b", token="t")


def _register(number: int) -> None:
    register_site(f"s{number}", url=f"http://h{number}")


def test_register_at_the_same_time(file: Path) -> None:
    write(file, TWO)
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        list(pool.map(_register, range(24)))
    assert len(load_sites()) == 26


def test_public_names() -> None:
    for name in crestline.__all__:
        assert getattr(crestline, name) is not None
    with pytest.raises(AttributeError):
        crestline.no_such_name  # noqa: B018
