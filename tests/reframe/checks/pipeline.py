"""What test authors do: fixtures, dependencies, parameters, arrays, files to keep, links, containers."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


class Data(rfm.RunOnlyRegressionTest):
    """A fixture that makes something on the system."""

    executable = "seq 10 > numbers.txt; echo made"

    @sanity_function
    def is_made(self):
        return sn.assert_found("made", self.stdout)


class LocalData(rfm.RunOnlyRegressionTest):
    """A fixture that makes something on this machine."""

    local = True
    executable = "echo from-here > here.txt"

    @sanity_function
    def is_made(self):
        return sn.assert_true(os.path.exists(os.path.join(self.stagedir, "here.txt")))


class _Here(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]


@rfm.simple_test
class Sum(_Here):
    data = fixture(Data, scope="session")
    here = fixture(LocalData, scope="session")

    @run_after("setup")
    def use_fixtures(self):
        self.executable = "awk '{ n += $1 } END { print \"sum\", n }'"
        self.executable_opts = [os.path.join(self.data.stagedir, "numbers.txt")]
        self.postrun_cmds = [f"cat {self.here.stagedir}/here.txt"]

    @sanity_function
    def is_right(self):
        return sn.all([sn.assert_found("sum 55", self.stdout), sn.assert_found("from-here", self.stdout)])


@rfm.simple_test
class Writes(_Here):
    """Some of what it writes is kept, and all of it can be looked at."""

    executable = "mkdir -p results/deep; echo 42 > results/deep/answer.txt; echo log > run.log; echo wrote >&2"
    keep_files = ["results", "*.log"]

    @sanity_function
    def is_there(self):
        return sn.all([sn.assert_found("42", "results/deep/answer.txt"), sn.assert_found("wrote", self.stderr)])


@rfm.simple_test
class Reads(_Here):
    """Depends on a test, and has an input of its own."""

    valid_prog_environs = ["builtin"]
    sourcesdir = "src"
    readonly_files = ["constants.txt"]
    executable = "cat constants.txt; ./tool.sh; cat"

    @run_after("init")
    def needs_writes(self):
        self.depends_on("Writes")

    @require_deps
    def take_answer(self, Writes):
        self.executable_opts = [os.path.join(Writes().stagedir, "results", "deep", "answer.txt")]

    @sanity_function
    def has_read(self):
        wanted = ("3.14", "tool ran", "42")
        return sn.all([sn.assert_found(text, self.stdout) for text in wanted])


@rfm.simple_test
class Array(_Here):
    executable = "echo element $SLURM_ARRAY_TASK_ID; cat constants.txt"
    sourcesdir = "src"

    @run_before("run")
    def make_it_one(self):
        self.job.options = ["--array=1-3"]

    @sanity_function
    def all_ran(self):
        return sn.all(
            [
                sn.assert_eq(sn.count(sn.findall("element [123]", self.stdout)), 3),
                sn.assert_eq(sn.count(sn.findall("3.14", self.stdout)), 3),
            ]
        )


@rfm.simple_test
class Contained(_Here):
    """The image is run by whatever is called `apptainer` there."""

    prerun_cmds = [
        "mkdir bin",
        "printf '#!/bin/sh\\necho apptainer \"$@\"\\n' > bin/apptainer",
        "chmod +x bin/apptainer",
        "PATH=$PWD/bin:$PATH",
    ]

    @run_before("run")
    def use_image(self):
        self.container_platform = "Apptainer"
        self.container_platform.image = "docker://alpine"
        self.container_platform.command = "cat /etc/os-release"

    @sanity_function
    def image_ran(self):
        """The stage directory that is mounted is the one on the system."""
        return sn.assert_found(r"apptainer exec.*reframe/.*/stage/.*:/rfm_workdir.* docker://alpine", self.stdout)


@rfm.simple_test
class Fails(_Here):
    executable = "echo no; exit 3"

    @sanity_function
    def says_yes(self):
        return sn.all([sn.assert_found("yes", self.stdout)])
