"""Warns the user in JupyterLab that the job's time limit is near, by an extension in one small generated file.

JupyterLab loads the extensions in `labextensions` of `JUPYTER_PATH`. This one needs only the page's own modules.
Programs find the end, in seconds since the epoch, in `CRESTLINE_SESSION_END`. Needs only Python 3.9.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "crestline-session"
VARIABLE = "CRESTLINE_SESSION_END"

# A module of webpack's federation, written by hand: `init` receives the page's shared modules, `get` returns the
# plug-in.
_SCRIPT = """(() => {
  const end = %(end)d * 1000, ahead = %(ahead)d * 1000, longest = 2147483647;
  let shared;
  const take = async name => (await Object.values(shared[name])[0].get())();
  const plugin = {
    id: 'crestline-session:notice',
    autoStart: true,
    activate: async app => {
      const { Notification } = await take('@jupyterlab/apputils');
      const tell = () => {
        const left = end - ahead - Date.now();
        if (left > 0) {
          setTimeout(tell, Math.min(left, longest));
          return;
        }
        const at = new Date(end).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
        Notification.warning(`This session ends at ${at}: its job reaches its time limit. Save your work.`,
          { autoClose: false });
      };
      app.restored.then(tell);
    }
  };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['crestline-session'] = {
    init: scope => { shared = scope; },
    get: () => Promise.resolve(() => ({ __esModule: true, default: plugin }))
  };
})();
"""


def session_end(time_limit: float | None, environment: Mapping[str, str] = os.environ) -> float | None:
    """Return the end of the job in seconds since the epoch: the scheduler's, otherwise by its time limit."""
    said = environment.get("SLURM_JOB_END_TIME", "")
    if said.isdigit():
        return float(said)
    return None if time_limit is None else time.time() + time_limit


def write(folder: Path, end: float, ahead: float) -> dict[str, str]:
    """Create the extension below `folder` and return the variables that the server's environment needs for it."""
    place = folder / "labextensions" / NAME
    (place / "static").mkdir(parents=True)
    package: dict[str, Any] = {
        "name": NAME,
        "version": "0.1.0",
        "jupyterlab": {"_build": {"load": "static/remoteEntry.js", "extension": "./extension"}},
    }
    (place / "package.json").write_text(json.dumps(package))
    (place / "static" / "remoteEntry.js").write_text(_SCRIPT % {"end": int(end), "ahead": int(ahead)})
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("JUPYTER_PATH", "")]))
    return {VARIABLE: str(int(end)), "JUPYTER_PATH": path}
