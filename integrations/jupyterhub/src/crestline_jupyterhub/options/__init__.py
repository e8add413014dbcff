"""The options that users can choose before a server starts.

`profiles` parses the setting `profile_list`, `live_choices` adds the system's current partitions and the like, `form`
renders the form, and `validation` checks the choices of the form or the REST API. `spawner` connects them to the hub.
"""

from crestline_jupyterhub.options.spawner import SpawnerOptions, apply_before_start

__all__ = ["SpawnerOptions", "apply_before_start"]
