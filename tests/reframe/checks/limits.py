"""Tests that a scheduler has to stop."""

import reframe.utility.sanity as sn

import reframe as rfm


class _Sleeps(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    executable = "echo began; sleep 600; echo ended"

    @sanity_function
    def has_ended(self):
        return sn.assert_found("ended", self.stdout)


@rfm.simple_test
class TooLong(_Sleeps):
    time_limit = "2s"


@rfm.simple_test
class NeverStarts(_Sleeps):
    max_pending_time = "3s"

    @run_before("run")
    def hold(self):
        self.job.options = ["--hold"]


@rfm.simple_test
class Refused(_Sleeps):
    @run_before("run")
    def ask_for_what_is_not_there(self):
        self.job.options = ["--partition=nowhere"]
