"""What is asked of sbatch, in a script's `#SBATCH` lines or on a command line (sbatch(1))."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from crestline.model.errors import InvalidRequestError

# sbatch(1), by what follows the option: a value, a value only after `=`, nothing. Short names follow their long ones.
_VALUE = """
    account A, acctg-freq, array a, batch, bb, bbf, begin b, chdir D, cluster-constraint, clusters M, comment,
    constraint C, container, container-id, core-spec S, cores-per-socket, cpu-freq, cpus-per-gpu, cpus-per-task c,
    deadline, delay-boot,
    dependency d, distribution m, error e, exclude x, export, export-file, extra, extra-node-info B, gid, gpu-bind,
    gpu-freq, gpus G, gpus-per-node, gpus-per-socket, gpus-per-task, gres, gres-flags, hint, input i, job-name J,
    kill-on-invalid-dep, licenses L, mail-type, mail-user, mcs-label, mem, mem-bind, mem-per-cpu, mem-per-gpu, mincpus,
    network, nodefile F, nodelist w, nodes N, ntasks n, ntasks-per-core, ntasks-per-gpu, ntasks-per-node,
    ntasks-per-socket, open-mode, output o, partition p, power, prefer, priority, profile, qos q, reservation,
    segment, signal, sockets-per-node, switches, thread-spec, threads-per-core, time t, time-min, tmp, tres-bind,
    tres-per-task, uid, wait-all-nodes, wckey, wrap
"""
_OPTIONAL = "exclusive, get-user-env, nice, no-kill k, propagate"
_FLAG = """
    contiguous, hold H, ignore-pbs, no-requeue, overcommit O, oversubscribe s, parsable, quiet Q, reboot, requeue,
    spread-job, test-only, use-min-nodes, verbose v, wait W
"""


def _names(text: str) -> list[list[str]]:
    return [part.split() for part in text.split(",") if part.strip()]


class Grammar:
    """The options that a command takes, by what follows them.

    Args:
        value: long names, separated by commas, each with its letter behind it: options with a value.
        optional: options that have a value after `=` only.
        flag: options without one.
    """

    def __init__(self, *, value: str, optional: str, flag: str) -> None:
        texts = (("value", value), ("optional", optional), ("flag", flag))
        self.kinds = {names[0]: kind for kind, text in texts for names in _names(text)}
        self.letters = {names[1]: names[0] for _, text in texts for names in _names(text) if len(names) > 1}

    def __or__(self, other: Grammar) -> Grammar:
        joined = Grammar(value="", optional="", flag="")
        joined.kinds = self.kinds | other.kinds
        joined.letters = self.letters | other.letters
        return joined


_SYNTAX = re.compile(r"[\"'\\#]")
_WORD = re.compile(r"[^ \t\r\n]+")
_LONGEST_QUOTED = 16 * 1024
_SBATCH = Grammar(value=_VALUE, optional=_OPTIONAL, flag=_FLAG)


@dataclass(frozen=True)
class Directives:
    """The options of a script's `#SBATCH` lines.

    Attributes:
        options: long option name -> value, `""` for one without; of two the last holds, as for sbatch.
        unknown: unknown options, as they stand in the script.
    """

    options: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def parse_directives(script: str) -> Directives:
    """Read the `#SBATCH` lines before the first command; `#PBS` lines are comments.

    Raises:
        InvalidRequestError: a quotation is not closed, or an option lacks its value.
    """
    options: dict[str, str] = {}
    unknown: list[str] = []
    for line in script.split("\n"):
        if re.match(r"#SBATCH(\s|$)", line):
            try:
                words = split_options(line.removeprefix("#SBATCH"))
            except ValueError as error:
                raise InvalidRequestError(
                    f"The line {truncated_repr(line)} cannot be read: {error}.", hint="Close the quotation."
                ) from error
            if words[:1] == ["hetjob"]:  # what follows belongs to another component
                unknown.append("hetjob")
                break
            _read(words, options, unknown, _SBATCH)
        elif line.strip() and not line.startswith("#"):
            break
    return Directives(options, tuple(unknown))


def split_options(text: str) -> list[str]:
    """The words of what follows `#SBATCH` or `#PBS` on a line.

    shlex takes time by the square of a word's length, so it gets short lines alone, and those that need it.

    Raises:
        ValueError: a quotation is not closed, or a long line has one.
    """
    if not _SYNTAX.search(text):
        return _WORD.findall(text)
    if len(text) > _LONGEST_QUOTED:
        raise ValueError(f"quotations need a line of at most {_LONGEST_QUOTED} characters")
    return shlex.split(text, comments=True)


def parse_arguments(words: Sequence[str], more: Grammar | None = None) -> tuple[Directives, list[str]]:
    """Read a command line of sbatch: its options, and from the first word that is none on the script and its arguments.

    Args:
        more: options that the command takes beside sbatch's, or with another meaning.

    Raises:
        InvalidRequestError: an option lacks its value.
    """
    options: dict[str, str] = {}
    unknown: list[str] = []
    grammar = _SBATCH | more if more else _SBATCH
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        word = _in_full(word, grammar)
        if word.startswith("--"):
            name, equals, _ = word[2:].partition("=")
        else:
            name, equals = grammar.letters.get(word[1], ""), word[2:]
            if grammar.kinds.get(name) == "flag" and equals:  # several in one word
                rest.insert(0, f"-{equals}")
                word = word[:2]
        value = [rest.pop(0)] if rest and not equals and grammar.kinds.get(name) == "value" else []
        _read([word, *value], options, unknown, grammar)
    return Directives(options, tuple(unknown)), rest


def _in_full(word: str, grammar: Grammar) -> str:
    """A long option that was cut short, as getopt_long(3) allows where only one begins like that."""
    name, equals, value = word[2:].partition("=")
    if not word.startswith("--") or name in grammar.kinds:
        return word
    meant = [each for each in grammar.kinds if each.startswith(name)]
    return f"--{meant[0]}{equals}{value}" if len(meant) == 1 else word


def _read(words: list[str], options: dict[str, str], unknown: list[str], grammar: Grammar) -> None:
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given = bool(equals)
        elif word.startswith("-") and len(word) > 1:
            name, value = grammar.letters.get(word[1], ""), word[2:].removeprefix("=")
            given = bool(value)
        else:
            unknown.append(word)
            continue
        kind = grammar.kinds.get(name)
        if kind is None:
            unknown.append(word)
        elif kind == "value" and not given:
            following = next(rest, None)
            if following is None:
                raise InvalidRequestError(
                    f"The option {truncated_repr(word)} of an #SBATCH line lacks its value.",
                    hint=f"Write `{word}=value`.",
                )
            options[name] = following
        else:
            options[name] = value


def parse_count(text: str, option: str) -> int:
    """A positive number, as `--ntasks` takes it.

    Raises:
        InvalidRequestError: not a number from 1.
    """
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise InvalidRequestError(
            f"--{option}={truncated_repr(text)} is not a count.", hint="Give a whole number from 1."
        )
    return int(text)


def parse_nodes(text: str) -> tuple[int, int]:
    """Least and most nodes: `4` or `2-4`.

    Raises:
        InvalidRequestError: not of that form.
    """
    least, dash, most = text.partition("-")
    low = parse_count(least, "nodes")
    high = parse_count(most, "nodes") if dash else low
    if high < low:
        raise InvalidRequestError(
            f"--nodes={truncated_repr(text)} ends before it begins.", hint="Write the smaller first."
        )
    return low, high


def truncated_repr(text: str) -> str:
    """Return the repr of the first 80 characters of `text`, for error messages."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
