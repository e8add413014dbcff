"""A job that waits for a reason that the site does not put up with."""

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Blocked(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    executable = "echo ran"

    @run_before("run")
    def hold(self):
        self.job.options = ["--hold"]

    @sanity_function
    def has_run(self):
        return sn.assert_found("ran", self.stdout)
