"""`#SBATCH` lines and the notations of their values."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.gateway.schedulers.directives import Array, parse_array, parse_begin
from crestline.model import InvalidRequestError
from crestline.model.memory import parse_memory
from crestline.model.sbatch import parse_count, parse_directives, parse_nodes
from crestline.model.time_limits import parse_time_limit

NOW = datetime(2026, 11, 21, 15, 30)


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("#SBATCH --time=10", {"time": "10"}),
        ("#SBATCH --time 10", {"time": "10"}),
        ("#SBATCH -t 10", {"time": "10"}),
        ("#SBATCH -t10", {"time": "10"}),
        ("#SBATCH\t--time=10   ", {"time": "10"}),
        ("#SBATCH -N 2 -n 4 --exclusive -J name", {"nodes": "2", "ntasks": "4", "exclusive": "", "job-name": "name"}),
        ("#SBATCH --exclusive=user", {"exclusive": "user"}),
        ("#SBATCH --exclusive -n 4", {"exclusive": "", "ntasks": "4"}),
        ("#SBATCH -H -n 1", {"hold": "", "ntasks": "1"}),
        ("#SBATCH --job-name='two words' # why", {"job-name": "two words"}),
        ('#SBATCH --job-name="a#b"', {"job-name": "a#b"}),
        ("#SBATCH -J a\n# remark\n\n#SBATCH -J b", {"job-name": "b"}),
        ("#SBATCH -J a\nhostname\n#SBATCH -J b", {"job-name": "a"}),
        ("##SBATCH -J a\n #SBATCH -J b\n#SBATCHED -J c", {}),
        ("#PBS -N name\n#SBATCH -J a", {"job-name": "a"}),
        ("#SBATCH", {}),
        ("#SBATCH --output=a=b", {"output": "a=b"}),
        ("#SBATCH --mail-user=me@x.ch --gres=gpu:1", {"mail-user": "me@x.ch", "gres": "gpu:1"}),
    ],
)
def test_lines(lines: str, options: dict[str, str]) -> None:
    found = parse_directives(f"#!/bin/sh\n{lines}\n")
    assert found.options == options
    assert found.unknown == ()


def test_unknown_options_are_told() -> None:
    found = parse_directives("#!/bin/sh\n#SBATCH --foo=1 -y word\n#SBATCH --time=5\n#SBATCH hetjob\n#SBATCH --time=9\n")
    assert found.options == {"time": "5"}
    assert found.unknown == ("--foo=1", "-y", "word", "hetjob")


@pytest.mark.parametrize("line", ["--job-name='open", "--time", "-t", "-n 1 --mem"])
def test_lines_that_cannot_be_read(line: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_directives(f"#!/bin/sh\n#SBATCH {line}\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("30:15", 1815),
        ("2:30:15", 9015),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-12:30:15", 131415),
        ("00:00:01", 1),
        ("0:90", 90),
        ("0-0:1:0", 60),
        ("90:00", 5400),
        ("0", None),
        ("00:00:00", None),
        ("1-2:30", 95400),
        ("2-0", 172800),
        ("UNLIMITED", None),
        ("infinite", None),
        ("-1", None),
    ],
)
def test_time(text: str, seconds: int | None) -> None:
    assert parse_time_limit(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "1:2:3:4", "1-", "-", "1h", "1-1-1", "\u0661", " 5", "5 ", "1:", "9" * 30, "1.5", "-5"]
)
def test_no_time(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Invalid time limit"):
        parse_time_limit(text)


@pytest.mark.parametrize(
    ("text", "mebi"),
    [("4G", 4096), ("500", 500), ("500M", 500), ("1T", 1048576), ("2048K", 2), ("1k", 1), ("4gb", 4096), ("0", 0)],
)
def test_memory(text: str, mebi: int) -> None:
    assert parse_memory(text) == mebi


@pytest.mark.parametrize("text", ["", "G", "1.5G", "-1", "4X", "4 G", "\u0664"])
def test_no_memory(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not an amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("0-3", Array((0, 1, 2, 3))),
        ("7", Array((7,))),
        ("1,4,9", Array((1, 4, 9))),
        ("9,1,4-5", Array((1, 4, 5, 9))),
        ("0-10:4", Array((0, 4, 8), step=4)),
        ("0-9%2", Array(tuple(range(10)), at_once=2)),
        ("0-4:2,1%3", Array((0, 1, 2, 4), at_once=3)),
        ("1,1,1", Array((1,))),
    ],
)
def test_array(text: str, array: Array) -> None:
    assert parse_array(text) == array


@pytest.mark.parametrize(
    "text",
    ["", "a", "3-1", "1-", "-1", "0-3:0", "0-3%", "0-3%0", "1,,2", "0-999999999", "0-99999,1", "5000000", "0-9%2%3"],
)
def test_no_array(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_array(text)


@pytest.mark.parametrize(("text", "pair"), [("4", (4, 4)), ("2-4", (2, 4))])
def test_nodes(text: str, pair: tuple[int, int]) -> None:
    assert parse_nodes(text) == pair


@pytest.mark.parametrize("text", ["0", "", "4-2", "-2", "2-", "two"])
def test_no_nodes(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_nodes(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("now+90", datetime(2026, 11, 21, 15, 31, 30)),
        ("now+2hours", datetime(2026, 11, 21, 17, 30)),
        ("now+1day", datetime(2026, 11, 22, 15, 30)),
        ("16:00", datetime(2026, 11, 21, 16, 0)),
        ("15:00:30", datetime(2026, 11, 22, 15, 0, 30)),
        ("noon", datetime(2026, 11, 22, 12, 0)),
        ("midnight", datetime(2026, 11, 22)),
        ("tomorrow", datetime(2026, 11, 22, 15, 30)),
        ("2027-01-20", datetime(2027, 1, 20)),
        ("2027-01-20T12:34:56", datetime(2027, 1, 20, 12, 34, 56)),
        ("2020-01-01", NOW),
    ],
)
def test_begin(text: str, moment: datetime) -> None:
    assert parse_begin(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "25:00", "now+", "now+1fortnight", "2026-02-30", "9999-12-31", "now+999999999weeks"]
)
def test_no_begin(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="not a time to begin"):
        parse_begin(text, NOW)


LINES = st.lists(
    st.one_of(
        st.text(),
        st.text().map(lambda text: f"#SBATCH {text}"),
        st.from_regex(r"#SBATCH (--?[a-z-]{1,9}[= ]?['\"\\\w%:+#-]*\s?){1,4}"),
    )
)


@given(LINES.map("\n".join))
def test_any_script_is_read_or_refused(script: str) -> None:
    try:
        found = parse_directives(script)
    except InvalidRequestError:
        return
    assert all(isinstance(value, str) for value in found.options.values())


NOTATION = st.one_of(st.text(), st.from_regex(r"[0-9a-zA-Z:,%+T-]{0,12}"))


@given(NOTATION)
def test_any_value_is_read_or_refused(text: str) -> None:
    for parse in (parse_time_limit, parse_memory, parse_array, parse_nodes, lambda value: parse_count(value, "ntasks")):
        try:
            parse(text)
        except InvalidRequestError:
            continue
    with suppress(InvalidRequestError):
        assert parse_begin(text, NOW) >= NOW
