"""A test whose program fails."""

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Fails(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    sourcesdir = None
    executable = "echo no; exit 3"

    @sanity_function
    def says_yes(self):
        return sn.assert_found("yes", self.stdout)
