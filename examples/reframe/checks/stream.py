"""Memory bandwidth as STREAM measures it: one build that three tests share, and references for the performance."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


class StreamBuild(rfm.CompileOnlyRegressionTest):
    """The program, built once for each environment."""

    sourcepath = "stream.c"
    build_system = "SingleSource"
    build_locally = False

    @run_before("compile")
    def choose_flags(self):
        self.executable = "stream.x"
        self.build_system.cflags = ["-O2"]


@rfm.simple_test
class Stream(rfm.RunOnlyRegressionTest):
    """Copy, scale and triad, for arrays of several sizes (in thousands of numbers)."""

    thousands = parameter([100, 500, 1000])
    build = fixture(StreamBuild, scope="environment")
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    reference = {"*": {"copy": (1000, -0.9, None, "MB/s"), "triad": (1000, -0.9, None, "MB/s")}}

    @run_after("setup")
    def use_the_build(self):
        self.executable = os.path.join(self.build.stagedir, "stream.x")
        self.executable_opts = [str(self.thousands)]

    @sanity_function
    def results_are_right(self):
        return sn.assert_found("Solution validates", self.stdout)

    @performance_function("MB/s")
    def copy(self):
        return sn.extractsingle(r"Copy:\s+(\S+)", self.stdout, 1, float)

    @performance_function("MB/s")
    def triad(self):
        return sn.extractsingle(r"Triad:\s+(\S+)", self.stdout, 1, float)
