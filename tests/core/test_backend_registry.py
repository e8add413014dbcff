"""The facility API of a site chooses the class of its backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crestline.client import Capability, Site, connect, create_api_key, list_systems
from crestline.client.backends import registry
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.model import ConfigError, CrestlineError
from crestline.testing.firecrest import PlainFirecrest, running
from crestline.wire.extensions import FEATURES

pytestmark = pytest.mark.anyio

PLUGIN = """
from crestline.client.backends.firecrest import FirecrestBackend

class TinyBackend(FirecrestBackend):
    async def systems(self):
        return [{"name": "tiny"}]

NUMBER = 7
"""


@pytest.fixture(scope="module")
def plain() -> Iterator[PlainFirecrest]:
    with running() as plain:
        yield plain


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution (a real dist-info) that adds facility APIs; only `tiny` is usable."""
    info = tmp_path / "crestline_tiny-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crestline-tiny\nVersion: 1\n")
    entries = {
        "tiny": "crestline_tiny_api:TinyBackend",
        "firecrest": "crestline_tiny_api:TinyBackend",
        "absent": "crestline_no_such_api:Backend",
        "number": "crestline_tiny_api:NUMBER",
    }
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
    (tmp_path / "crestline_tiny_api.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))


def site_of(plain: PlainFirecrest, api: str) -> Site:
    return Site(url=plain.url, token=plain.token(), system=plain.system, api=api)


@pytest.mark.usefixtures("plugged")
async def test_site_chooses_the_backend_by_its_api(plain: PlainFirecrest) -> None:
    assert [each["name"] for each in await list_systems(site_of(plain, "tiny"))] == ["tiny"]
    assert [each["name"] for each in await list_systems(site_of(plain, "firecrest"))] == [plain.system]
    async with connect(site_of(plain, "tiny")) as tiny, connect(site_of(plain, "firecrest")) as built_in:
        assert type(tiny.backend).__name__ == "TinyBackend"
        assert type(built_in.backend).__name__ == "FirecrestBackend", "a plug-in cannot replace a built-in API"


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("api", "text"),
    [("nowhere", "Unknown facility API"), ("absent", "crestline_no_such_api"), ("number", "not a Backend class")],
)
async def test_unusable_api_is_a_configuration_error(plain: PlainFirecrest, api: str, text: str) -> None:
    site = site_of(plain, api)
    with pytest.raises(ConfigError, match=text):
        await list_systems(site)
    with pytest.raises(ConfigError, match=text):
        await create_api_key(site, "mine")
    with pytest.raises(ConfigError, match=text):
        async with connect(site):
            pass


@pytest.mark.usefixtures("plugged")
async def test_error_for_an_unknown_api_lists_the_known_ones(plain: PlainFirecrest) -> None:
    with pytest.raises(ConfigError) as caught:
        await list_systems(site_of(plain, "nowhere"))
    assert "absent, firecrest, iri, number, tiny" in str(caught.value.hint)


def test_every_feature_of_a_gateway_is_a_capability() -> None:
    assert Capability.parse(FEATURES) == frozenset(Capability)
    assert {each.value for each in Capability} == set(FEATURES)
    assert Capability.parse(["of-the-future", "tar"]) == {Capability.TAR}


@pytest.mark.parametrize("api", ["firecrest", "iri"])
async def test_a_transport_takes_the_place_of_the_network(api: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(404, stream=httpx.ByteStream(b"{}"))

    site = Site(url="https://facility.example", token="t", api=api)
    with pytest.raises(CrestlineError):
        await connect(site, system="any", transport=httpx.MockTransport(answer)).open()
    assert set(asked) == {"facility.example"}


async def test_a_backend_without_a_transport_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirecrestBackend, "__init__", lambda self, url, system, authorizer, **_: None)
    monkeypatch.setattr(registry, "backend_class", lambda api: FirecrestBackend)
    with pytest.raises(ConfigError, match="takes no `transport`"):
        await connect(
            Site(url="https://facility.example", token="t"),
            transport=httpx.MockTransport(lambda _: httpx.Response(404)),
        ).open()
