"""`image:` of a job as the command that runs its script on the system."""

from __future__ import annotations

import fnmatch
import re
import shlex

from crestline.model import ConfigError
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.settings import Images

_NAME = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_.,/:@+#-]*")
_SCHEME = re.compile(r"[a-z-]+://")


def launch(images: Images, image: str, workspace: str, shell: str, script: str, *, per_rank: bool) -> list[str]:
    """Return the shell lines that run `script` (an absolute path on the system).

    Raises:
        BuildFailureError: the image's name is invalid or not allowed, or images are not supported here.
        ConfigError: the template is incomplete.
    """
    command = [shell, script]
    srun = ["srun"] if per_rank else []
    if not image:
        return [f"exec {shlex.join([*srun, *command])}"]
    if not _NAME.fullmatch(image):
        raise BuildFailureError(f"image: {image!r} is not a name of an image.", hint="Check the variables in it.")
    if images.allowed and not any(fnmatch.fnmatchcase(image, pattern) for pattern in images.allowed):
        raise BuildFailureError(f"image: {image} is not allowed here.", hint=f"Allowed: {', '.join(images.allowed)}.")
    match images.runtime:
        case "none":
            raise BuildFailureError(
                f"This runner does not run containers, and the job asks for image: {image}.", hint="Remove `image:`."
            )
        case "apptainer":
            place = image if image.startswith("/") or _SCHEME.match(image) else f"docker://{image}"
            return [f"exec {shlex.join([*srun, 'apptainer', 'exec', '--bind', workspace, place, *command])}"]
        case "pyxis":
            options = [f"--container-image={_enroot(image)}", f"--container-mounts={workspace}:{workspace}"]
            return [f"exec {shlex.join([*(srun or ['srun', '--ntasks=1']), *options, *command])}"]
        case "ce":
            definition = f"{workspace}/log/environment.toml"
            content = f'image = "{_enroot(image)}"\nmounts = ["{workspace}:{workspace}"]\nwritable = true\n'
            environment = f"--environment={definition}"
            return [
                f"printf %s {shlex.quote(content)} >{shlex.quote(definition)}",
                f"exec {shlex.join([*(srun or ['srun', '--ntasks=1']), environment, *command])}",
            ]
        case "uenv":
            return [f"exec {shlex.join([*srun, 'uenv', 'run', image, '--', *command])}"]
        case "custom":
            if not any("{image}" in word for word in images.command):
                raise ConfigError("images.command has no {image}.", hint="Say where the image's name goes.")
            words = [word.replace("{image}", image).replace("{workspace}", workspace) for word in images.command]
            return [f"exec {shlex.join([*srun, *words, *command])}"]


def _enroot(image: str) -> str:
    """Return `registry#name`, Enroot's format for an image of another registry than the default one."""
    host, slash, rest = image.partition("/")
    if slash and not image.startswith("/") and ("." in host or ":" in host) and "#" not in image:
        return f"{host}#{rest}"
    return image
