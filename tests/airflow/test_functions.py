"""Calls of functions as files: packed here, run by another Python, and what becomes of what they return."""

from __future__ import annotations

import ast
import decimal
import inspect
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from crestline.model import InvalidRequestError, Job, JobState
from crestline_airflow.functions import Call, RemoteFunctionError, pack, value_of
from crestline_airflow.functions.packing import source_of

FAILED = Job(job_id="1", state=JobState.FAILED)
BIG = 64


@pytest.fixture
def remotely(tmp_path: Path) -> Callable[..., Any]:
    """Calls a function in another Python, which has nothing but what lies in `tmp_path`."""

    def remotely(function: Any, *args: Any, serializer: Any = "pickle", limit: int = 4096, **kwargs: Any) -> Any:
        call = Call(function=function, args=args, kwargs=kwargs, serializer=serializer, limit=limit)
        (tmp_path / "call.py").write_bytes(pack(call))
        done = subprocess.run([sys.executable, "-S", "call.py", "outcome"], cwd=tmp_path, check=False)
        content = (tmp_path / "outcome").read_bytes()
        return value_of(content, function.__name__, serializer, limit, FAILED if done.returncode else None)

    return remotely


def test_a_value(remotely: Any) -> None:
    def join(words: list[str], *, by: str = "-") -> tuple[str, int]:
        return by.join(words), len(words)

    assert remotely(join, ["a", "∆"], by="+") == ("a+∆", 2)


def test_json(remotely: Any) -> None:
    async def double(values: list[float]) -> dict[str, Any]:
        import asyncio

        await asyncio.sleep(0)
        return {"values": [2 * value for value in values]}

    assert remotely(double, [0.5, 2], serializer="json") == {"values": [1, 4]}


def test_annotations_may_name_anything(remotely: Any) -> None:
    def annotated(path: Path) -> Job:
        return path  # type: ignore[return-value]

    assert remotely(annotated, 1) == 1


def test_a_pool_of_processes_finds_the_function(remotely: Any) -> None:
    def square(number: int) -> Any:
        import multiprocessing
        import sys

        if number < 0:
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return pool.map(sys.modules["__main__"].square, [2, 3])
        return number**2

    assert remotely(square, -1) == [4, 9]


def test_an_exception(remotely: Any) -> None:
    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(RemoteFunctionError, match=r"divide\(\) raised ZeroDivisionError: division by zero") as caught:
        remotely(divide, 0)
    line = inspect.getsourcelines(divide)[1] + 1
    assert caught.value.type_name == "ZeroDivisionError"
    assert f'File "{__file__}", line {line}, in divide\n    return 1 / by' in caught.value.traceback
    assert "call.py" not in caught.value.traceback
    assert caught.value.job is FAILED


def test_an_exit_is_no_value(remotely: Any) -> None:
    def leave() -> None:
        raise SystemExit(0)

    with pytest.raises(RemoteFunctionError, match="SystemExit"):
        remotely(leave)


def test_a_module_that_the_system_lacks(remotely: Any) -> None:
    def fit() -> None:
        import no_such_solver  # noqa: F401

    with pytest.raises(RemoteFunctionError, match="No module named 'no_such_solver'") as caught:
        remotely(fit)
    assert "has no such module: name another Python with python=" in str(caught.value)


def test_a_name_of_the_file_around_it(remotely: Any) -> None:
    def use() -> int:
        return BIG

    with pytest.raises(RemoteFunctionError, match="name 'BIG' is not defined\nThe function travels alone"):
        remotely(use)


def test_a_default_of_the_file_around_it(remotely: Any) -> None:
    def use(size: int = BIG) -> int:
        return size

    with pytest.raises(InvalidRequestError, match=r"cannot load use\(\): NameError: name 'BIG'"):
        remotely(use)


def test_what_is_too_large(remotely: Any) -> None:
    def grow(size: int) -> bytes:
        return bytes(size)

    def measure(content: bytes) -> int:
        return len(content)

    with pytest.raises(InvalidRequestError, match=r"returned 5\d\d\d bytes; 4096 are allowed. Write a file"):
        remotely(grow, 5000)
    with pytest.raises(InvalidRequestError, match=r"arguments .* have 5\d\d\d bytes; 4096 are allowed. Upload a file"):
        remotely(measure, bytes(5000))


def test_what_cannot_be_serialized(remotely: Any) -> None:
    def make() -> Any:
        return (number for number in range(3))

    def show(value: Any) -> str:
        return str(value)

    with pytest.raises(InvalidRequestError, match="has returned a generator, which cannot be serialized"):
        remotely(make)
    with pytest.raises(InvalidRequestError, match="cannot be serialized as json"):
        remotely(show, {1, 2}, serializer="json")
    with pytest.raises(InvalidRequestError, match="cannot be serialized as pickle"):
        remotely(show, lambda: None)


def test_a_value_of_a_class_that_is_not_here(remotely: Any, tmp_path: Path) -> None:
    def make() -> Any:
        import only_there

        return only_there.Thing()

    (tmp_path / "only_there.py").write_text("class Thing:\n    pass\n")
    with pytest.raises(InvalidRequestError, match="cannot load: ModuleNotFoundError: No module named 'only_there'"):
        remotely(make)


def test_arguments_that_the_system_cannot_load(remotely: Any, tmp_path: Path) -> None:
    def show(value: Any) -> str:
        return str(value)

    (tmp_path / "decimal.py").write_text("raise ImportError('older than that')\n")
    with pytest.raises(InvalidRequestError, match=r"cannot load the arguments of show\(\): ImportError: older"):
        remotely(show, decimal.Decimal("0.1"))


def test_a_python_too_old_for_the_function(remotely: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def new() -> int:
        return 1

    monkeypatch.setattr("crestline_airflow.functions.packing.source_of", lambda _: "def new():\n    return 1 ?? 2\n")
    with pytest.raises(InvalidRequestError, match=r"on the system .* cannot load new\(\): SyntaxError"):
        remotely(new)


def test_old_pythons_can_read_the_runner() -> None:
    source = resources.files("crestline_airflow.functions").joinpath("runner.py").read_text()
    ast.parse(source, feature_version=(3, 6))


def decorated(function: Any) -> Any:
    return function


def test_the_source_of_a_function() -> None:
    @decorated
    def strange() -> None: ...

    with pytest.raises(InvalidRequestError, match="@decorated stays behind"):
        source_of(strange)
    with pytest.raises(InvalidRequestError, match="not a function with a name"):
        source_of(lambda: 1)

    if BIG:

        def text() -> str:
            # a comment
            return """not
#indented"""

    names: dict[str, Any] = {}
    exec(compile(source_of(text), __file__, "exec"), names)
    assert names["text"]() == "not\n#indented"
    assert names["text"].__code__.co_firstlineno == inspect.getsourcelines(text)[1]
