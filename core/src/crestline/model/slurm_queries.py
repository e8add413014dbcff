"""Slurm's own commands that only read: a question to one, its answer, and the options of each."""

from __future__ import annotations

import getopt
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from crestline.model.errors import InvalidRequestError

_DOCUMENTS = "json? yaml?"

QUERIES = {
    "squeue": f"""
        a/all A/account= r/array expand-patterns federation h/noheader hide i/iterate= j/jobs= local l/long L/licenses=
        M/clusters= me n/name= noconvert w/nodelist= o/format= O/Format= only-job-state p/partition= P/priority q/qos=
        R/reservation= sibling S/sort= s/steps? start t/states= u/user= users= v/verbose {_DOCUMENTS}
    """,
    "sacct": f"""
        a/allusers A/accounts= account= array b/brief c/completion D/duplicates delimiter= E/endtime= e/helpformat
        expand-patterns env-vars F/flags= f/file= o/format= g/gid= group= B/batch-script j/jobs= k/timelimit-min=
        K/timelimit-max= l/long L/allclusters local M/clusters= I/ncpus= i/nnodes= n/noheader name= N/nodelist=
        noconvert p/parsable P/parsable2 r/partition= q/qos= s/state= S/starttime= T/truncate u/user= uid=
        units= use-local-uid v/verbose W/wckeys= whole-hetjob? X/allocations x/associations= federation {_DOCUMENTS}
    """,
    "sinfo": f"""
        a/all d/dead e/exact federation F/future o/format= O/Format= h/noheader hide i/iterate= l/long M/clusters=
        n/nodes= noconvert N/Node p/partition= r/responding R/list-reasons local s/summarize S/sort= t/states=
        T/reservation v/verbose {_DOCUMENTS}
    """,
    "scontrol": f"""
        a/all d/details F/future h/help hide M/clusters= local o/oneliner Q/quiet sibling u/uid= v/verbose {_DOCUMENTS}
    """,
    "sacctmgr": f"""
        h/help i/immediate local n/noheader o/oneliner p/parsable P/parsable2 Q/quiet r/readonly s/associations
        v/verbose {_DOCUMENTS}
    """,
    "sshare": f"""
        a/all A/accounts= e/helpformat h/noheader n/noheader l/long m/partition M/clusters= o/format= p/parsable
        P/parsable2 U/Users u/users= v/verbose {_DOCUMENTS}
    """,
    "sprio": """
        federation h/noheader j/jobs= l/long local M/clusters= n/norm o/format= p/partition= sibling S/sort= u/user=
        v/verbose w/weights
    """,
}
"""by command: long names, each with its letter before a `/` if it has one; `=` behind those that take a value, `?`
behind those that take one only after `=`"""

USERS = frozenset({"user", "users"})
"""options whose value names users"""


class SlurmQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A command line.

    Attributes:
        program: one of `QUERIES`.
        arguments: its words.
        environment: variables that change what it prints (`SQUEUE_FORMAT`, `TZ`).
        me: the user's name on this machine, which stands for the one on the system.
    """

    program: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    me: str = ""


class SlurmOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What a command left: its exit code, standard output and standard error."""

    exit_code: int
    output: str
    errors: str


@dataclass(frozen=True)
class ParsedOptions:
    """A command line in its parts."""

    pairs: list[tuple[str, str]]
    """long names and values in their order; the value of an option without one is empty"""
    words: list[str]
    """the arguments that are not options"""
    valued: frozenset[str]
    """names of the options that need a value"""

    def settings(self, lists: Collection[str] = ()) -> dict[str, str]:
        """The values by name: the last counts, but for `lists`, whose values add up."""
        found: dict[str, str] = {}
        for name, value in self.pairs:
            found[name] = f"{found[name]},{value}" if name in lists and name in found else value
        return found

    def written(self) -> list[str]:
        """The options by their long names, so that no command can read an abbreviation in another way."""
        return [f"--{name}={value}" if value or name in self.valued else f"--{name}" for name, value in self.pairs]


def parse_options(words: Sequence[str], grammar: str) -> ParsedOptions:
    """Cut a command line into options and other words.

    Args:
        words: the command line without the command's name.
        grammar: as the values of `QUERIES`.

    Raises:
        InvalidRequestError: an option that does not exist or lacks its value, in the words of getopt_long(3).
    """
    letters, names = "", []
    long_of: dict[str, str] = {}
    optional, valued = set(), set()
    for entry in grammar.split():
        letter, slash, name = entry.rpartition("/")
        bare = name.rstrip("=?")
        if name.endswith("?"):
            optional.add(bare)
            names.append(f"{bare}-given=")
        if name.endswith("="):
            valued.add(bare)
        names.append(name.rstrip("?"))
        if slash:
            letters += letter + (":" if name.endswith("=") else "")
            long_of[f"-{letter}"] = bare
    if optional:
        given = re.compile(rf"--({'|'.join(optional)})=")
        words = [given.sub(r"--\1-given=", word) for word in words]
    try:
        pairs, rest = getopt.gnu_getopt(list(words), letters, names)
    except getopt.GetoptError as error:
        raise InvalidRequestError(_complaint(error)) from None
    return ParsedOptions(
        [
            (long_of.get(option, option.removeprefix("--").removesuffix("-given").rstrip("=")), value)
            for option, value in pairs
        ],
        rest,
        frozenset(valued),
    )


def _complaint(error: getopt.GetoptError) -> str:
    name = error.opt
    if len(name) == 1:
        return f"option requires an argument -- '{name}'" if "requires" in error.msg else f"invalid option -- '{name}'"
    if "requires" in error.msg:
        return f"option '--{name}' requires an argument"
    if "must not" in error.msg:
        return f"option '--{name}' doesn't allow an argument"
    if "unique prefix" in error.msg:
        return f"option '--{name}' is ambiguous"
    return f"unrecognized option '--{name}'"
