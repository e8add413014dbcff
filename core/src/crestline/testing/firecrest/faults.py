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
    """Seconds after submission in which a job is called `allocation`, has no working directory and is PENDING."""
    accounting_lag: float = 0.0
    """Seconds after its start (2 to 4 in the recorded lab) in which the accounting knows a job only as a nameless
    `allocation` row: PENDING while it runs, then its end. Of an array this is the last element alone, under the array's
    plain id; the others are there only while they run, under plain ids of their own."""
    list_loses_ended: float = 0.0
    """Seconds after its end (2 to 3 as measured) in which a job is missing from the list, since squeue has dropped it
    and the accounting has not learnt of it yet; by id it is found."""
    array_rows_doubled: bool = True
    """Elements that run are listed once more under plain ids of their own, and the rest that waits under the array's:
    squeue's rows beside sacct's."""
    array_metadata_is_one: bool = True
    """The metadata of an array are one record under its id: that of its last element, or while any waits, with
    4294967294 for its index."""
    metadata_kept: float | None = None
    """Seconds after its end for which the metadata of a job can be had (Slurm's MinJobAge, 300 by default), then 404
    although the job itself is found; None: always."""
    stale_pending: float = 0.0
    """Seconds after its start in which a running job is still shown as PENDING."""
    list_omits: str = ""
    """Regular expression: jobs whose id or name it fully matches are missing from the list; by id they are found."""
    list_omits_dependent: bool = False
    """Jobs with a dependency are missing from the list; by id they are found."""
    list_413_above: int | None = None
    """A list of more jobs than this is refused: 413, the command's output exceeded the buffer."""
    list_408_above: int | None = None
    """A list of more jobs than this is refused: 408, the command took too long."""
    pipe_in_name_breaks_list: bool = True
    """A `|` or newline in a job's name turns every list that has the job, and the job itself, into 500."""
    names_mangled: bool = True
    """The accounting returns `"` in names as a backtick and every non-ASCII character as `?`."""
    cancel_ended_is_500: bool = True
    """Cancelling an unknown or ended job is 500; if off: unknown is 404, ended is 204."""
    env_commas_truncate: bool = True
    """Environment values end at their first comma."""
    quote_in_path_breaks: bool = True
    """A `'` in any path of `ops` is 500: unbalanced shell. (A stand-in never executes what follows the quote.)"""
    space_breaks_checksum: bool = True
    """A space or tab in the path of `ops/checksum` is 500."""
    checksum_is_marked: bool = True
    """As sha256sum prints it, the checksum begins with a backslash if the file's path has one, or a line break."""
    html_escapes_transfer_paths: bool = True
    """Transfer jobs see `&`, `<`, `>` and both quotes in paths as HTML entities."""
    offer_script_leaves_source_bare: bool = True
    """The job of an S3 download has its source path without quotes: what a shell makes of it happens."""
    offer_script_measures_links: bool = True
    """The job of an S3 download takes the length of a symbolic link for that of the file."""
    fetch_script_double_quotes_target: bool = True
    """The job of an S3 upload has its target path in double quotes: `$`, backquotes and backslashes act."""
    compress_script_leaves_directory_bare: bool = True
    """With a match pattern, `compress` (`ops` too) changes into the directory above without quotes around its name;
    the command of `ops` is in double quotes as a whole."""
    empty_upload_hangs: bool = True
    """A direct upload of no bytes writes the file, then is 408 after the command timeout: nothing ends its input."""
    failed_upload_hides_why: bool = True
    """A direct upload that cannot be written is 500, whatever the reason: its command ends before its input is sent."""
    names_listed_in_octal: bool = True
    """`ls` runs without a locale: the bytes of names beyond ASCII, and control characters, come as escapes."""
    checksum_408_above: int | None = None
    """The checksum of a file of more bytes than this takes too long: 408."""
    failed_transfer_completes: bool = True
    """cp, mv, rm, compress and extract jobs that failed end COMPLETED with exit code 0; if off: FAILED, 1."""
    download_too_large: int = 500
    """Status of `ops/download` above 3.75 MiB: 500 as measured, or 413 as the source says."""
    command_time: float = 0.0
    """Seconds that each command on the system takes."""
    max_sessions: int | None = None
    """How many commands a user's one SSH connection carries at once (sshd's MaxSessions, 10 by default): what comes
    beyond is 424, or 500 with that as its cause where FirecREST runs two commands for one request."""
    break_after_400: bool = False
    """The request that follows a 400 of a file endpoint, on the same connection, is dropped."""
    min_token_ttl: float = 30.0
    """Seconds; a token with less life left is refused with its own message."""
    reject_tokens: bool = False
    """Every token is invalid: 401."""
    unknown_signing_key: bool = False
    """New tokens are signed with a key that the gateway has not loaded: 401."""
    reject_refresh: bool = False
    """The token endpoint refuses every refresh token: 400 invalid_grant."""
    unhealthy: str = ""
    """`scheduler`, `filesystem` or `ssh`: the last health check was red, so what depends on it is 503."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    # shorthands: each adds one rule and returns it

    def fail(self, status: int, path: str = "", method: str = "", **options: Any) -> Rule:
        """Answer `status` to matching requests; `when="after"` for work that is done all the same."""
        return self.add(Rule(path=path, method=method, status=status, **options))

    def drop(self, path: str = "", method: str = "", **options: Any) -> Rule:
        """Reset the connection of matching requests; `when="after"` for work that is done all the same."""
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
        """Append a rule to the present ones."""
        with self._lock:
            self.rules.append(rule)
        return rule

    # used by the server

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
        """Set several fields by name. `rules` (a list of objects) are appended to the present ones.

        Raises:
            ValueError: a name does not exist; nothing was changed.
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
        """Return all switches with their present values."""
        return asdict(self)
