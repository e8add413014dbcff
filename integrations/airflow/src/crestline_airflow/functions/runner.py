"""Runs one call of a function of a DAG, and leaves its outcome in the file that the first argument names.

It is sent to the system with the call behind it: the standard library alone, and Python from 3.6 on.
"""
# ruff: noqa: D103, S102, S301, UP031, UP036

import asyncio
import base64
import inspect
import json
import linecache
import os
import pickle
import platform
import sys
import traceback


def run(call):
    """Write the outcome: a line of JSON that says what it is, and behind it the value that was returned."""
    status, value = outcome_of(call)
    status.update(python=platform.python_version(), executable=sys.executable)
    place = sys.argv[1]
    draft = place + ".part"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(json.dumps(status).encode() + b"\n" + value)
    os.replace(draft, place)
    sys.exit(0 if status["status"] == "returned" else 1)


def outcome_of(call):
    try:
        function = function_of(call)
    except BaseException as error:
        return failure("function not loaded", error, 2), b""
    try:
        args, kwargs = loads(call["serializer"], base64.b64decode(call["arguments"]))
    except BaseException as error:
        return failure("arguments not loaded", error, 2), b""
    try:
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
    except BaseException as error:
        return failure("raised", error, 1), b""
    try:
        content = dumps(call["serializer"], value)
    except BaseException as error:
        return dict(failure("value not serialized", error, 2), value_type=type(value).__name__), b""
    if len(content) > call["limit"]:
        status = {"status": "value too large", "size": len(content)}
        print("The returned value has %d bytes; %d are allowed." % (len(content), call["limit"]), file=sys.stderr)
        return status, b""
    return {"status": "returned"}, content


def function_of(call):
    """The function, compiled so that tracebacks show the file and the lines of the DAG."""
    linecache.cache[call["file"]] = (len(call["source"]), None, call["source"].splitlines(True), call["file"])
    flags = 0
    if sys.version_info >= (3, 7):
        import __future__

        flags = __future__.annotations.compiler_flag  # what annotations name need not exist here
    names = {"__name__": "__main__", "__file__": call["file"]}
    exec(compile(call["source"], call["file"], "exec", flags, True), names)
    function = names[call["name"]]
    setattr(sys.modules["__main__"], call["name"], function)  # where a pool of processes looks for it
    return function


def failure(status, error, own_frames):
    """What went wrong, without the frames of this file; the job's stderr shows it too."""
    trace = error.__traceback__
    for _ in range(own_frames):
        trace = trace.tb_next if trace is not None and trace.tb_next is not None else trace
    text = "".join(traceback.format_exception(type(error), error, trace))
    sys.stdout.flush()
    print(text, file=sys.stderr, end="", flush=True)
    return {"status": status, "type": type(error).__name__, "message": str(error), "traceback": text}


def loads(serializer, content):
    return json.loads(content.decode()) if serializer == "json" else pickle.loads(content)


def dumps(serializer, value):
    return json.dumps(value).encode() if serializer == "json" else pickle.dumps(value, 4)
