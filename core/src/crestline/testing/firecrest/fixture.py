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
from crestline.testing.firecrest.asgi import Listener
from crestline.testing.firecrest.faults import Faults
from crestline.testing.firecrest.job import Job
from crestline.testing.firecrest.scheduler import Scheduler
from crestline.testing.firecrest.settings import NO_KEY_USER, SECOND_USER, Settings, User
from crestline.testing.firecrest.state import FacilityState, Seen


class PlainFirecrest:
    """A running stand-in, with its addresses, users, faults and recorded requests.

    Example::

        with running() as plain:
            print(plain.url, plain.client_id, plain.client_secret)
    """

    def __init__(self, settings: Settings, port: int = 0, neighbours_port: int = 0) -> None:
        self.settings = settings
        self._facility = FacilityState(settings)
        routes = control.routes(self._facility, self.down, self.up)
        self._gateway = Listener(server.gateway(self._facility, routes), port)
        self._neighbours = Listener(server.neighbours(self._facility, routes), neighbours_port)
        self._facility.store.base_url = self._neighbours.url
        self._timer: threading.Timer | None = None
        self._neighbours.open()
        self._gateway.open()

    # addresses and users

    @property
    def url(self) -> str:
        """FirecREST's root, e.g. `http://127.0.0.1:41235`."""
        return self._gateway.url

    @property
    def neighbours_url(self) -> str:
        """Root of the identity provider and S3. The control calls work there even while FirecREST is down."""
        return self._neighbours.url

    @property
    def token_url(self) -> str:
        """The OAuth token endpoint (client credentials, refresh token)."""
        return f"{self._neighbours.url}/token"

    @property
    def jwks_url(self) -> str:
        """URL of the public keys of the tokens."""
        return f"{self._neighbours.url}/jwks"

    @property
    def system(self) -> str:
        """Name of the only system."""
        return self.settings.system

    @property
    def user(self) -> User:
        """The first user, to whom `client_id` and `client_secret` belong."""
        return self.settings.users[0]

    second_user = SECOND_USER
    """Another user with another home directory."""
    user_without_key = NO_KEY_USER
    """A user with valid tokens but without an SSH key on the system."""

    @property
    def client_id(self) -> str:
        """OAuth client id of the first user, which is also the POSIX name."""
        return self.user.name

    @property
    def client_secret(self) -> str:
        """OAuth client secret of the first user."""
        return self.user.secret

    @property
    def second_client(self) -> tuple[str, str]:
        """Id and secret of the second user."""
        return self.second_user.name, self.second_user.secret

    @property
    def home(self) -> Path:
        """Home directory of the first user. FirecREST and this machine use the same path."""
        return self.settings.home_of(self.user.name)

    @property
    def scratch(self) -> Path:
        """The scratch file system, which all users share."""
        return self.settings.scratch

    def token(self, user: User | None = None, lifetime: float | None = None) -> str:
        """Return an access token that is valid for `lifetime` seconds (if negative, it has expired)."""
        return self._facility.issuer.access_token(user or self.user, lifetime)

    def sign_in(self, user: User | None = None) -> dict[str, Any]:
        """Return access token and refresh token of a login. The refresh token works once."""
        return self._facility.issuer.sign_in(user or self.user)

    # faults

    @property
    def faults(self) -> Faults:
        """The switches of the server's faults."""
        return self._facility.faults

    def down(self, seconds: float | None = None) -> None:
        """Refuse connections until `up()` or for `seconds`. Jobs, identity provider and S3 continue."""
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
        """Restart the server. All jobs remain."""
        self.down()
        self.up()

    # jobs and requests

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler with its control calls `requeue`, `end`, `show_as`, `hold` and `age`."""
        return self._facility.scheduler

    def jobs(self, job_id: str | None = None) -> list[Job]:
        """Return the jobs with an id, or all, as the scheduler itself knows them, without faults."""
        return self.scheduler.all() if job_id is None else self.scheduler.find(job_id)

    @property
    def requests(self) -> list[Seen]:
        """`(method, path, query, status)` of every request, including `/token` and `/s3/`. You may `clear()` it."""
        return self._facility.requests

    def count(self, method: str, path: str) -> int:
        """Return the number of requests with this method and a path that ends with `path`."""
        return sum(seen.method == method and seen.path.endswith(path) for seen in self.requests)

    def close(self) -> None:
        """Stop the server and all jobs."""
        if self._timer is not None:
            self._timer.cancel()
        self._gateway.close()
        self._neighbours.close()
        self._facility.close()


@contextmanager
def running(
    root: Path | str | None = None, *, port: int = 0, neighbours_port: int = 0, **options: Any
) -> Iterator[PlainFirecrest]:
    """Run a plain FirecREST on free loopback ports, in threads of this process.

    Args:
        root: directory for its files. None: a temporary directory, removed at the end.
        port: port of FirecREST. 0: any free port.
        neighbours_port: port of the identity provider and S3. 0: any free port.
        options: fields of `Settings` (`version`, `cpus_per_node`, `token_lifetime`, ...).
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
