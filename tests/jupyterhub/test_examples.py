"""The shipped configurations: each is read as the hub reads it. The one for one machine is run by the other tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from oauthenticator.generic import GenericOAuthenticator
from traitlets.config import Config, PyFileConfigLoader

from crestline.client import find_site
from crestline_jupyterhub import FirecRESTSpawner
from crestline_jupyterhub.options.profiles import read_profiles
from harness.example_hub import EXAMPLES


def known(config: dict[str, Any], section: str, owner: type) -> None:
    unknown = [name for name in config.get(section, {}) if name not in owner.class_traits(config=True)]  # type: ignore[attr-defined]
    assert unknown == [], f"{section} has no settings of these names"


@pytest.mark.parametrize("name", ["jupyterhub_config.py", "slurm_oidc_config.py"])
def test_configuration_is_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HUB_PASSWORD", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"):
        monkeypatch.setenv(variable, "a-value-that-is-long-enough")
    monkeypatch.setenv("HUB_FOLDER", str(tmp_path))
    monkeypatch.setenv("CRESTLINE_SITES", str(tmp_path / "sites.toml"))
    config: Config = PyFileConfigLoader(name, path=str(EXAMPLES)).load_config()
    known(config, "FirecRESTSpawner", FirecRESTSpawner)
    known(config, "Spawner", FirecRESTSpawner)
    known(config, "GenericOAuthenticator", GenericOAuthenticator)
    known(config, "Authenticator", GenericOAuthenticator)
    assert config.JupyterHub.spawner_class == "firecrest"
    assert FirecRESTSpawner(config=config).profile_list == config.FirecRESTSpawner.profile_list
    assert len(read_profiles(config.FirecRESTSpawner.profile_list)) == 1


def test_sites_are_those_that_the_configurations_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sites.toml"
    file.write_bytes((EXAMPLES / "sites.toml").read_bytes())
    file.chmod(0o600)
    monkeypatch.setenv("CRESTLINE_SITES", str(file))
    assert find_site("cluster@hpc")[1] == "cluster"
    assert find_site("hpc-service")[0].client_id == "jupyterhub-service"


def test_values_of_the_chart_name_settings_that_there_are() -> None:
    values = msgspec.yaml.decode((EXAMPLES / "zero-to-jupyterhub.yaml").read_bytes())
    config = values["hub"]["config"]
    known(config, "FirecRESTSpawner", FirecRESTSpawner)
    known(config, "GenericOAuthenticator", GenericOAuthenticator)
    known(config, "Authenticator", GenericOAuthenticator)
    FirecRESTSpawner(config=Config({"FirecRESTSpawner": config["FirecRESTSpawner"]}))
    assert 'spawner_class = "firecrest"' in values["hub"]["extraConfig"]["10-spawner"]
