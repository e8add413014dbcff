"""Two tests whose jobs end when the file exists that `RFM_TEST_RELEASE` names."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Held(rfm.RunOnlyRegressionTest):
    number = parameter([1, 2])
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    sourcesdir = "src"
    executable = f"while [ ! -e {os.environ.get('RFM_TEST_RELEASE', '')} ]; do sleep 0.1; done; cat constants.txt"

    @sanity_function
    def has_run(self):
        return sn.assert_found("3.14", self.stdout)
