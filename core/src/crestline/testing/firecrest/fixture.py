"""A plain FirecREST for a test: `with running() as plain: ...`."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crestline.testing.firecrest import control, server
from crestline.testing.firecrest.asgi import Door
from crestline.testing.firecrest.faults import Faults
from crestline.testing.firecrest.job import Job
from crestline.testing.firecrest.scheduler import Scheduler
from crestline.testing.firecrest.settings import NO_KEY_USER, SECOND_USER, Settings, User
from crestline.testing.firecrest.state import Seen, World


class PlainFirecrest:
    """A stand-in at work. Where it is, who may log in, what goes wrong, and what it has seen."""

    def __init__(self, settings: Settings, port: int = 0, neighbours_port: int = 0) -> None:
        self.settings = settings
        self._world = World(settings)
        routes = control.routes(self._world, self.down, self.up)
        self._gateway = Door(server.gateway(self._world, routes), port)
        self._neighbours = Door(server.neighbours(self._world, routes), neighbours_port)
        self._world.store.base_url = self._neighbours.url
        self._timer: threading.Timer | None = None
        self._neighbours.open()
        self._gateway.open()

    # where, and who

    @property
    def url(self) -> str:
        """FirecREST's root, e.g. `http://127.0.0.1:41235`."""
        return self._gateway.url

    @property
    def neighbours_url(self) -> str:
        """Root of the identity provider and S3; the control calls are there too, even while FirecREST is down."""
        return self._neighbours.url

    @property
    def token_url(self) -> str:
        """The OAuth token endpoint (client credentials, refresh token)."""
        return f"{self._neighbours.url}/token"

    @property
    def jwks_url(self) -> str:
        """The public keys of the tokens."""
        return f"{self._neighbours.url}/jwks"

    @property
    def system(self) -> str:
        """Name of the one system."""
        return self.settings.system

    @property
    def user(self) -> User:
        """The first user; `client_id` and `client_secret` are hers."""
        return self.settings.users[0]

    second_user = SECOND_USER
    """Another user with a home of his own."""
    user_without_key = NO_KEY_USER
    """A user with valid tokens who has no SSH key on the system."""

    @property
    def client_id(self) -> str:
        """OAuth client id, and POSIX name, of the first user."""
        return self.user.name

    @property
    def client_secret(self) -> str:
        """Her secret."""
        return self.user.secret

    @property
    def second_client(self) -> tuple[str, str]:
        """Id and secret of the second user."""
        return self.second_user.name, self.second_user.secret

    @property
    def home(self) -> Path:
        """Home directory of the first user, on this machine's disk and in FirecREST's eyes alike."""
        return self.settings.home_of(self.user.name)

    @property
    def scratch(self) -> Path:
        """The mount that belongs to no user."""
        return self.settings.scratch

    def token(self, user: User | None = None, lifetime: float | None = None) -> str:
        """An access token, with a life of `lifetime` seconds (negative: expired)."""
        return self._world.issuer.access_token(user or self.user, lifetime)

    def sign_in(self, user: User | None = None) -> dict[str, Any]:
        """Access token and refresh token of a person's login; the refresh token is good for one use."""
        return self._world.issuer.sign_in(user or self.user)

    # what goes wrong

    @property
    def faults(self) -> Faults:
        """The switches."""
        return self._world.faults

    def down(self, seconds: float | None = None) -> None:
        """Refuse connections, from now until `up()` or for `seconds`. Jobs run on; identity provider and S3 stay up."""
        self._gateway.shut()
        if seconds is not None:
            self._timer = threading.Timer(seconds, self.up)
            self._timer.daemon = True
            self._timer.start()

    def up(self) -> None:
        """End an outage."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._gateway.open()

    def restart(self) -> None:
        """Go down and come up again, with all jobs."""
        self.down()
        self.up()

    # what it does and has seen

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, with its control calls: requeue, end, show_as, hold, age."""
        return self._world.scheduler

    def jobs(self, job_id: str | None = None) -> list[Job]:
        """The jobs behind an id, or all, as the scheduler itself sees them (no fault hides or delays anything)."""
        return self.scheduler.all() if job_id is None else self.scheduler.find(job_id)

    @property
    def requests(self) -> list[Seen]:
        """`(method, path, query, status)` of every request, `/token` and `/s3/` included; `clear()` it at will."""
        return self._world.requests

    def count(self, method: str, path: str) -> int:
        """How many requests had this method and a path that ends with `path`."""
        return sum(seen.method == method and seen.path.endswith(path) for seen in self.requests)

    def close(self) -> None:
        """Stop everything, jobs included."""
        if self._timer is not None:
            self._timer.cancel()
        self._gateway.close()
        self._neighbours.close()
        self._world.close()


@contextmanager
def running(
    root: Path | str | None = None, *, port: int = 0, neighbours_port: int = 0, **options: Any
) -> Iterator[PlainFirecrest]:
    """A plain FirecREST on free loopback ports, in threads of this process.

    `root` is where its files go (default: a temporary directory, removed at the end); all other options are the fields
    of `Settings` (`version`, `cpus_per_node`, `token_lifetime`, ...).
    """
    own = root is None
    place = Path(tempfile.mkdtemp(prefix="plain-firecrest-") if root is None else root).resolve()
    plain = PlainFirecrest(Settings(place, **options), port, neighbours_port)
    try:
        yield plain
    finally:
        plain.close()
        if own:
            shutil.rmtree(place, ignore_errors=True)
