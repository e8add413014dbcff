"""A program that is built on the system, and a test that needs it, perhaps in another session."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Built(rfm.RegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    build_system = "CustomBuild"
    build_locally = False
    executable = "./tool"

    @run_before("compile")
    def write_program(self):
        self.build_system.commands = ["printf '#!/bin/sh\\necho built\\n' > tool", "chmod +x tool"]

    @sanity_function
    def has_run(self):
        return sn.assert_found("built", self.stdout)


@rfm.simple_test
class Uses(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]

    @run_after("init")
    def needs_built(self):
        self.depends_on("Built")

    @require_deps
    def take_program(self, Built):
        self.executable = os.path.join(Built().stagedir, "tool")

    @sanity_function
    def has_run(self):
        return sn.assert_found("built", self.stdout)
