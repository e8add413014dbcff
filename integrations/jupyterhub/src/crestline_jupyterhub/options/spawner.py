"""The spawner's side of the options: its settings, the form it shows, and how a choice becomes settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast
from weakref import WeakKeyDictionary

from jupyterhub.spawner import Spawner
from jupyterhub.user import User
from jupyterhub.utils import maybe_future
from traitlets import Callable, Dict, Float, List, TraitError, Union, default

from crestline.model import ConfigError, CrestlineError
from crestline_jupyterhub.failures import SpawnFailedError
from crestline_jupyterhub.options import form
from crestline_jupyterhub.options.live_choices import LiveChoices, fetch_choices
from crestline_jupyterhub.options.profiles import Override, Profile, is_safe, read_profiles
from crestline_jupyterhub.options.validation import choose, from_form, names_of, refuse
from crestline_jupyterhub.settings import SpawnerSettings

FORM_PATIENCE = 5.0
"""seconds that the form waits for the gateway"""
CHECK_PATIENCE = 30.0


class SpawnerOptions(SpawnerSettings):
    """Settings that say what users may choose, and what they have chosen."""

    profile_list = Union(
        [List(Dict()), Dict(), Callable()],
        config=True,
        help="""Kinds of servers, as kubespawner has them (docs/how-to/jupyterhub-forms.md): a list of profiles, a
        dictionary of them by slug, or a callable of the spawner that returns either and may be async. Users may set
        what is offered here and nothing else, in the form and by the REST API.""",
    )
    software = Dict(
        config=True,
        help="""The software a session runs in: `modules`, `module_paths`, `conda`, `venv`, `variables`, `container`,
        `container_command`, `uenv`, `view`. Usually set by a profile.""",
    )
    clusters = Dict(
        config=True,
        help="""Clusters that start with the session: `{"dask": {}}`, `{"ipyparallel": {"mpi": True}}`, or both.
        Usually set by a profile's option.""",
    )
    live_max_age = Float(30.0, config=True, help="Seconds that lists of partitions, nodes and reservations are kept.")
    chosen_options: Mapping[str, str] = {}
    """values of the profile's options by name, checked; fields of `batch_script`, too"""

    @default("profile_list")
    def _profile_list(self) -> list[Any]:
        return []

    @default("options_form")
    def _options_form(self) -> Any:
        return _show

    @default("options_from_form")
    def _options_from_form(self) -> Any:
        return from_form

    @default("apply_user_options")
    def _apply_user_options(self) -> Any:
        return _apply


async def apply_before_start(spawner: SpawnerOptions) -> None:
    """Apply the options where the hub does not do it itself: before JupyterHub 5.3.

    Raises:
        SpawnFailedError: they cannot be used; says why.
    """
    if not hasattr(Spawner, "apply_user_options"):
        await _apply(spawner, spawner.user_options)


async def _show(spawner: SpawnerOptions) -> str:
    """The form; empty where nothing is offered, and then the hub starts the server at once."""
    profiles = await _profiles(spawner)
    if not profiles:
        return ""
    return form.render(profiles, await _live(spawner, profiles, FORM_PATIENCE), _chosen_before(spawner))


_last_tried: WeakKeyDictionary[User, dict[str, Any]] = WeakKeyDictionary()
"""options of each user's last start, which the form shows again where that start is refused"""


def _chosen_before(spawner: SpawnerOptions) -> Mapping[str, Any]:
    """What the form shows as chosen.

    After a refused start the hub shows the form of the user's default server, whichever server it was; of a request for
    the form itself it says the handler.
    """
    tried = _last_tried.pop(spawner.user, None)
    asked = spawner.handler is not None and not spawner.handler._finished
    return cast("Mapping[str, Any]", spawner.user_options if asked or tried is None else tried)


async def _apply(spawner: SpawnerOptions, options: dict[str, Any]) -> None:
    """Check the options and set what they say.

    Raises:
        SpawnFailedError: they cannot be used; says why.
    """
    _last_tried[spawner.user] = options
    profiles = await _profiles(spawner)
    of_site: dict[str, str] = {}
    if spawner.options_form is not _show or spawner.options_from_form is not from_form:
        offered = names_of(profiles, options)
        of_site = {
            name: str(value)
            for name, value in options.items()
            if name not in offered and isinstance(value, str | int | float) and is_safe(str(value))
        }
        options = {name: value for name, value in options.items() if name in offered}
    if not profiles:
        if options:
            raise refuse("This hub offers no options: start the server without any.")
        spawner.chosen_options = of_site
        return
    chosen = choose(profiles, options, await _live(spawner, profiles, CHECK_PATIENCE))
    for override in chosen.overrides:
        await _set(spawner, override)
    spawner.chosen_options = of_site | chosen.values


async def _profiles(spawner: SpawnerOptions) -> list[Profile]:
    setting: Any = spawner.profile_list
    try:
        if callable(setting):
            setting = await maybe_future(setting(spawner))
        return read_profiles(setting)
    except ConfigError as error:
        raise _misconfigured(str(error)) from error


async def _live(spawner: SpawnerOptions, profiles: list[Profile], patience: float) -> LiveChoices | None:
    kinds = {option.live for profile in profiles for option in profile.options} - {""}
    if not kinds:
        return LiveChoices({})
    try:
        system = await spawner.access().as_user()
    except CrestlineError as error:
        spawner.log.warning("The form has no live data: %s", error)
        return None
    return await fetch_choices(system, spawner.live_max_age, patience, accounts="accounts" in kinds)


async def _set(spawner: SpawnerOptions, override: Override) -> None:
    for name, given in override.items():
        if not spawner.has_trait(name):
            raise _misconfigured(f"profile_list: the spawner has no setting {name!r}")
        value = given(spawner) if callable(given) else given
        if inspect.isawaitable(value):
            value = await value
        if isinstance(value, Mapping):
            value = _merged(cast("Mapping[str, Any]", getattr(spawner, name)), value)
        try:
            setattr(spawner, name, value)
        except TraitError as error:
            raise _misconfigured(f"profile_list: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for name, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(name), Mapping)
        both[name] = _merged(both[name], value) if nested else value
    return both


def _misconfigured(message: str) -> SpawnFailedError:
    return SpawnFailedError(
        "This hub's options are not set up correctly; tell your administrator.",
        log_message=message,
        reason="configuration",
        status_code=500,
    )
