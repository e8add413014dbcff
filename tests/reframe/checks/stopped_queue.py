"""A job in a queue that starts none."""

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class NeverStarts(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    executable = "echo ran"
    max_pending_time = "3s"

    @run_before("run")
    def choose_queue(self):
        self.job.options = ["-q gpu"]

    @sanity_function
    def has_run(self):
        return sn.assert_found("ran", self.stdout)
