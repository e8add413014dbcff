"""As many small tests as `RFM_TEST_COUNT` says; each notes beside the run's directories that it has run."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Small(rfm.RunOnlyRegressionTest):
    number = parameter(range(int(os.environ.get("RFM_TEST_COUNT", "4"))))
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    sourcesdir = "src"
    seconds = variable(str, value="0")
    time_limit = "5m"

    @run_before("run")
    def choose_command(self):
        tally = f"../../../../tally.{self.hashcode}.{self.current_partition.name}"
        self.executable = (
            f"echo ran >> {tally}; sleep {self.seconds}; cat constants.txt; cat {tally}; echo done {self.number}"
        )

    @sanity_function
    def has_run_once(self):
        return sn.all(
            [
                sn.assert_found(rf"done {self.number}$", self.stdout),
                sn.assert_eq(sn.count(sn.findall("ran", self.stdout)), 1),
            ]
        )
