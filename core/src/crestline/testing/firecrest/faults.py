"""The faults of the server as data. `fault_layer` applies the rules."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass
class Rule:
    """A fault of the next `count` requests that match. To each request the first matching rule applies.

    >>> Rule(path="/jobs$", method="POST", status=503).count
    1
    """

    path: str = ""
    """Regular expression searched in the lower-case path (`/token` and `/s3/` included); empty matches every path."""
    method: str = ""
    """Regular expression that must match the whole method; empty matches every method."""
    query: str = ""
    """Regular expression searched in the raw query string."""
    count: int | None = 1
    """Number of requests that the rule applies to; None for all."""
    skip: int = 0
    """Number of matching requests that pass unchanged first."""
    when: Literal["before", "after"] = "before"
    """`before` if the request is not carried out, `after` if it is carried out and only its answer changes."""
    status: int | None = None
    """Answer this status with an error body instead (429: the body of an API manager)."""
    retry_after: float | None = None
    """Value of the `Retry-After` header, in seconds, beside `status`."""
    body: str | None = None
    """Answer exactly this text (need not be JSON) as `text/html` with `status`, or 200 without one."""
    drop: bool = False
    """Reset the connection instead of answering."""
    delay: float = 0.0
    """Seconds to wait first. If the rule has only a delay, the request then continues as usual."""


@dataclass
class Faults:
    """The switches of one server. Set a field at any time, or POST the same names to `/_faults`.

    Switches that are on by default reproduce real servers.
    """

    rules: list[Rule] = field(default_factory=list)
    """Generic faults, by method and path; shorthands: `fail`, `drop`, `delay`, `throttle`, `garble`."""
    fresh_job_404: float = 0.0
    """Seconds after submission in which a job is 404 by id and absent from the list."""
    allocation_window: float = 0.0
    """Seconds after submission in which a job has the name `allocation`, no working directory and the state PENDING."""
    accounting_lag: float = 0.0
    """Seconds after its start (2 to 4 in the recorded lab) in which the accounting knows a job only as a nameless
    `allocation` row, which is PENDING while the job runs. Of an array, this row is its last task, with the id of the
    array. The other tasks are listed only while they run, with ids of their own."""
    list_loses_ended: float = 0.0
    """Seconds after its end (2 to 3 as measured) in which a job is missing from the list, since squeue has dropped
    it and the accounting does not know it yet. It is still found by id."""
    array_rows_doubled: bool = True
    """Running array tasks are listed again under ids of their own, and the pending ones under the id of the array:
    squeue's rows next to sacct's."""
    array_metadata_is_one: bool = True
    """The metadata of an array are one record with its id: that of its last task, or while any is pending, with
    4294967294 as its index."""
    metadata_kept: float | None = None
    """Seconds after its end during which the metadata of a job are available (Slurm's MinJobAge, 300 by default).
    After that they are 404, although the job itself is found. None: always available."""
    stale_pending: float = 0.0
    """Seconds after its start in which a running job still appears as PENDING."""
    list_omits: str = ""
    """Regular expression: jobs whose id or name it fully matches are missing from the list, but found by id."""
    list_omits_dependent: bool = False
    """Jobs with a dependency are missing from the list, but found by id."""
    list_413_above: int | None = None
    """Maximum number of jobs in a list. A longer one is 413: the command's output exceeded the buffer."""
    list_408_above: int | None = None
    """Maximum number of jobs in a list. A longer one is 408: the command timed out."""
    pipe_in_name_breaks_list: bool = True
    """A `|` or newline in a job's name causes a 500 for every list that contains the job, and for the job itself."""
    names_mangled: bool = True
    """The accounting returns `"` in names as a backtick and every non-ASCII character as `?`."""
    cancel_ended_is_500: bool = True
    """Cancelling an unknown or ended job is 500. If False: 404 for an unknown job, 204 for an ended one."""
    env_commas_truncate: bool = True
    """Environment values end at their first comma."""
    quote_in_path_breaks: bool = True
    """A `'` in any path of `ops` is 500: unbalanced quotes in the shell. (A stand-in never executes the rest.)"""
    space_breaks_checksum: bool = True
    """A space or tab in the path of `ops/checksum` is 500."""
    checksum_is_marked: bool = True
    """The checksum begins with a backslash if the file's path contains a backslash or a newline, as in sha256sum."""
    html_escapes_transfer_paths: bool = True
    """Transfer jobs see `&`, `<`, `>` and both quotes in paths as HTML entities."""
    offer_script_leaves_source_bare: bool = True
    """The job of an S3 download does not quote its source path, so the shell splits and interprets it."""
    offer_script_measures_links: bool = True
    """The job of an S3 download uses the size of a symbolic link instead of that of the file."""
    fetch_script_double_quotes_target: bool = True
    """The job of an S3 upload has its target path in double quotes: `$`, backquotes and backslashes are interpreted."""
    compress_script_leaves_directory_bare: bool = True
    """With a match pattern, `compress` (also in `ops`) changes into the parent directory without quoting its name.
    In `ops`, the whole command is in double quotes."""
    empty_upload_hangs: bool = True
    """A direct upload of an empty file writes it, but is 408 after the command timeout: its input is never closed."""
    failed_upload_hides_why: bool = True
    """A direct upload that cannot be written is 500 for any reason: its command ends before its input is sent."""
    names_listed_in_octal: bool = True
    """`ls` runs without a locale: non-ASCII bytes and control characters in names are escaped."""
    checksum_408_above: int | None = None
    """Maximum file size in bytes for a checksum. Larger files time out: 408."""
    failed_transfer_completes: bool = True
    """Failed cp, mv, rm, compress and extract jobs end as COMPLETED with exit code 0. If False: FAILED with 1."""
    download_too_large: int = 500
    """Status of `ops/download` above 3.75 MiB: 500 as measured, or 413 as in the source code."""
    command_time: float = 0.0
    """Seconds that each command on the system takes."""
    max_sessions: int | None = None
    """Maximum number of concurrent commands in a user's SSH connection (sshd's MaxSessions, 10 by default). Beyond
    that, the response is 424, or 500 with this cause where FirecREST runs two commands for one request."""
    break_after_400: bool = False
    """After a 400 of a file endpoint, the next request on the same connection is dropped."""
    min_token_ttl: float = 30.0
    """Minimum remaining lifetime of a token in seconds. Other tokens are rejected with a specific message."""
    reject_tokens: bool = False
    """Every token is invalid: 401."""
    unknown_signing_key: bool = False
    """New tokens are signed with a key that the gateway has not loaded: 401."""
    reject_refresh: bool = False
    """The token endpoint refuses every refresh token: 400 invalid_grant."""
    unhealthy: str = ""
    """`scheduler`, `filesystem` or `ssh`: its last health check failed, so endpoints that need it are 503."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    # Shorthands: each adds one rule and returns it.

    def fail(self, status: int, path: str = "", method: str = "", **options: Any) -> Rule:
        """Answer `status` to matching requests. With `when="after"`, the request is still executed."""
        return self.add(Rule(path=path, method=method, status=status, **options))

    def drop(self, path: str = "", method: str = "", **options: Any) -> Rule:
        """Reset the connection of matching requests. With `when="after"`, the request is still executed."""
        return self.add(Rule(path=path, method=method, drop=True, **options))

    def delay(self, seconds: float, path: str = "", method: str = "", **options: Any) -> Rule:
        """Delay matching requests by `seconds`."""
        return self.add(Rule(path=path, method=method, delay=seconds, **options))

    def throttle(self, retry_after: float | None = 1, path: str = "", method: str = "", **options: Any) -> Rule:
        """Answer 429, as an API manager in front of FirecREST does."""
        return self.add(Rule(path=path, method=method, status=429, retry_after=retry_after, **options))

    def garble(self, path: str = "", method: str = "", body: str = "<html>Bad gateway</html>", **options: Any) -> Rule:
        """Answer with a body that is not JSON (status 200 unless given)."""
        return self.add(Rule(path=path, method=method, body=body, **options))

    def add(self, rule: Rule) -> Rule:
        """Append a rule to the existing ones."""
        with self._lock:
            self.rules.append(rule)
        return rule

    # Used by the server.

    def match(self, method: str, path: str, query: str) -> Rule | None:
        """Return the rule that applies to this request, and decrement its count."""
        with self._lock:
            for rule in self.rules:
                if rule.count == 0 or (rule.method and not re.fullmatch(rule.method, method)):
                    continue
                if not re.search(rule.path, path) or not re.search(rule.query, query):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                    continue
                if rule.count is not None:
                    rule.count -= 1
                return rule
        return None

    def update(self, changes: dict[str, Any]) -> None:
        """Set several fields by name. `rules` (a list of objects) are appended to the existing ones.

        Raises:
            ValueError: unknown name. Nothing is changed.
        """
        known = {f.name for f in fields(self)}
        if unknown := set(changes) - known:
            raise ValueError(f"Unknown fault: {', '.join(sorted(unknown))}")
        try:
            rules = [Rule(**rule) for rule in changes.get("rules", [])]
        except TypeError as error:
            raise ValueError(str(error)) from None
        for rule in rules:
            self.add(rule)
        for name, value in changes.items():
            if name != "rules":
                setattr(self, name, value)

    def reset(self) -> None:
        """Reset all switches to the behaviour of real servers."""
        fresh = Faults()
        for f in fields(self):
            setattr(self, f.name, getattr(fresh, f.name))

    def as_dict(self) -> dict[str, Any]:
        """Return all switches with their current values."""
        return asdict(self)
