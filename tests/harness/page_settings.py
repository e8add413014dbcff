"""What the Python blocks of a page have configured, read by the host whose configuration it is.

Imported by the interpreter of `page_python` alone, as hosts are large.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def hub_names() -> dict[str, Any]:
    """What JupyterHub gives its configuration file."""
    from traitlets.config import Config

    config = Config()
    return {"c": config, "get_config": lambda: config}


def check_hub(config: Any, page: str) -> None:
    """Every class that is configured has such a setting, and takes the value; or the page's tables name it as gone."""
    import batchspawner
    import jupyterhub.app
    from oauthenticator.generic import GenericOAuthenticator
    from traitlets.config import Config

    from crestline_jupyterhub import FirecRESTSpawner

    classes: dict[str, type[Any]] = {
        "JupyterHub": jupyterhub.app.JupyterHub,
        "Spawner": FirecRESTSpawner,
        "FirecRESTSpawner": FirecRESTSpawner,
        "SlurmSpawner": batchspawner.SlurmSpawner,
        "Authenticator": GenericOAuthenticator,
        "GenericOAuthenticator": GenericOAuthenticator,
    }
    tables = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    for name, section in config.items():
        kind = classes[name]
        unknown = {each for each in section.keys() - kind.class_traits(config=True).keys() if f"`{each}`" not in tables}
        assert not unknown, f"{name} has no setting {unknown}"
        configured = kind(config=Config({name: section}))  # refuses a value of a wrong type
        if name == "SlurmSpawner":
            _check_batch_script(configured)


def _check_batch_script(spawner: Any) -> None:
    """batchspawner fills the template, and nothing is left open."""
    from batchspawner.batchspawner import format_template

    for name in ("username", "homedir", "keepvars"):  # by default the user's, whom a page does not have
        setattr(spawner, f"req_{name}", name)
    script = format_template(spawner.batch_script, **spawner.get_req_subvars(), cmd="jupyterhub-singleuser")
    assert f"--partition={spawner.req_partition}" in script
    assert "{" not in script


def check_partition(partition: dict[str, Any], place: Path) -> None:
    """ReFrame's own reader takes a partition, and knows its scheduler."""
    import yaml
    from reframe.core.backends import getscheduler
    from reframe.core.config import load_config

    file = place / ".partition.yaml"
    system = {"name": "page", "hostnames": [".*"], "partitions": [partition]}
    file.write_text(yaml.safe_dump({"systems": [system], "environments": [{"name": "builtin"}]}))
    config = load_config(str(file))
    config.validate()
    config.select_subconfig(f"page:{partition['name']}")
    getscheduler(partition["scheduler"])
