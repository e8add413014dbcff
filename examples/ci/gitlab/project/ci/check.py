# ruff: noqa: RUF012 - ReFrame's own form
import reframe.utility.sanity as sn
from reframe.core.builtins import sanity_function

import reframe as rfm


@rfm.simple_test
class HelloCheck(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    executable = "echo"
    executable_opts = ["hello"]

    @sanity_function
    def says_hello(self):
        return sn.assert_found("hello", self.stdout)
