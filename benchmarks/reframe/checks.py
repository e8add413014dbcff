"""As many run-only tests as `RFM_TEST_COUNT` says; each says hello."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Hello(rfm.RunOnlyRegressionTest):
    number = parameter(range(int(os.environ.get("RFM_TEST_COUNT", "20"))))  # noqa: F821
    valid_systems = ["*"]  # noqa: RUF012
    valid_prog_environs = ["*"]  # noqa: RUF012
    executable = "echo Hello"

    @sanity_function  # noqa: F821
    def says_hello(self):
        return sn.assert_found("Hello", self.stdout)
