"""`crestline env`: shell exports that connect programs to a gateway on this machine."""

from __future__ import annotations

import shlex

from crestline.cli.help import make_app
from crestline.cli.options import Json, StateDir
from crestline.cli.output import print_json

app = make_app()


@app.command()
def env(state_dir: StateDir = None, json: Json = False) -> None:
    """Print shell exports that connect programs to the gateway of this machine: eval "$(crestline env)"."""
    from crestline.gateway.config import DEFAULT_STATE_DIR
    from crestline.gateway.state_directory import StateDirectory

    place = StateDirectory((state_dir or DEFAULT_STATE_DIR).expanduser().absolute())
    client_id, secret = place.read_first_client()
    endpoint = place.read_endpoint()
    variables = {
        "FIRECREST_URL": endpoint.url,
        "AUTH_TOKEN_URL": endpoint.token_url,
        "FIRECREST_CLIENT_ID": client_id,
        "FIRECREST_CLIENT_SECRET": secret,
        "FIRECREST_SYSTEM": endpoint.system,
    }
    if json:
        print_json(variables)
        return
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
