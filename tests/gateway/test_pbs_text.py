"""What qstat prints with `-F json`, whatever it looks like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crestline.gateway.schedulers.pbs import jobs
from crestline.gateway.schedulers.pbs.output import read_objects

HEAD = '{\n    "timestamp":1,\n    "pbs_server":"s",\n    "Jobs":{\n'
TAIL = "\n    }\n}\n"


def job(job_id: str, *lines: str) -> str:
    return f'        "{job_id}":{{\n' + ",\n".join(f"            {line}" for line in lines) + "\n        }"


@given(st.binary())
def test_any_bytes_can_be_read(output: bytes) -> None:
    assert isinstance(read_objects(output, "Jobs"), dict)


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters='"\\')))
def test_texts_come_back(name: str) -> None:
    output = HEAD + job("1.s", f'"Job_Name":"{name}"', '"job_state":"R"') + TAIL
    assert read_objects(output.encode(), "Jobs")["1.s"] == {"Job_Name": name, "job_state": "R"}


@pytest.mark.parametrize("bare", ["007", "1e999", "nan", "-inf", "0x1F", ".5", "+5", "1.", "12", "true", "null"])
def test_bare_values_are_text(bare: str) -> None:
    output = HEAD + job("1.s", f'"Job_Name":{bare}', '"Resource_List":{"ncpus":1}') + TAIL
    assert read_objects(output.encode(), "Jobs")["1.s"] == {"Job_Name": bare, "Resource_List": {"ncpus": "1"}}


def test_unescaped_quotes_and_backslashes() -> None:
    output = HEAD + job("1.s", r'"Job_Name":"say "hi" C:\new"', '"A":""', '"B":"""', '"job_state":"R"') + TAIL
    seen = read_objects(output.encode(), "Jobs")["1.s"]
    assert seen["job_state"] == "R"
    assert seen["Job_Name"].startswith('say "hi" C:')


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_job_does_not_hide_the_others(place: int) -> None:
    rows = [job(f"{number}.s", '"job_state":"R"', f'"n":{number}') for number in range(3)]
    rows[place] = job(f"{place}.s", '"job_state":"R"', '"broken":"no end', '"n":"a":"b":]')
    found = read_objects((HEAD + ",\n".join(rows) + TAIL).encode(), "Jobs")
    assert {job_id: values["n"] for job_id, values in found.items()} == {
        f"{number}.s": str(number) for number in range(3) if number != place
    }


def test_no_jobs() -> None:
    assert read_objects(b"", "Jobs") == {}
    assert read_objects(b'{"timestamp":1,\n"pbs_server":"s"\n}\n', "Jobs") == {}


@pytest.mark.parametrize(
    ("words", "seconds"), [("00:00:05", 5), ("100:00:00", 360000), ("90", 90), ("01:30", 90), ("", None), ("x", None)]
)
def test_durations(words: str, seconds: int | None) -> None:
    assert jobs._seconds(words) == seconds


@pytest.mark.parametrize(
    ("words", "seconds"),
    [("Sat Nov 21 22:33:17 2026", 1795300397), ("1795300397", 1795300397), ("soon", None), (None, None)],
)
def test_times(words: str | None, seconds: int | None) -> None:
    assert jobs.epoch(words) == seconds
