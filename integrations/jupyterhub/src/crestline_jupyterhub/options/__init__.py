"""What a user may choose before a server starts.

`offer` reads the setting `profile_list` into types, `live` adds what the system has now, `form` shows it, and `choice`
checks what came back, by the form or by the REST API, and says what it sets. `spawner` ties them to the hub.
"""

from crestline_jupyterhub.options.spawner import SpawnerOptions, apply_before_start

__all__ = ["SpawnerOptions", "apply_before_start"]
