"""Links that a job makes, and links among its inputs."""

import os

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class Makes(rfm.RunOnlyRegressionTest):
    """Files behind links are read as with any other backend; links that lead elsewhere do no harm."""

    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    executable = "mkdir sub; echo 42 > sub/answer"
    postrun_cmds = [
        "ln -s $PWD/sub/answer absolute",
        "ln -s ../sub/answer sub/relative",
        "ln -s circle circle",
        "ln -s nowhere dangling",
        "ln -s /etc/passwd out",
        "ln -s /proc/self/cwd cwd",
    ]

    @sanity_function
    def is_there(self):
        return sn.all(
            [
                sn.assert_found("42", "absolute"),
                sn.assert_found("42", "sub/relative"),
                sn.assert_true(os.path.islink("circle")),
                sn.assert_true(os.path.islink("dangling")),
            ]
        )


@rfm.simple_test
class Reads(rfm.RunOnlyRegressionTest):
    """Links that a hook makes for the job, and one of the job to another test's stage directory."""

    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    sourcesdir = "src"
    executable = "until cat system/name; do sleep 0.1; done; cat inside; ls -d back"

    @run_after("init")
    def needs_makes(self):
        self.depends_on("Makes")

    @run_after("setup")
    @require_deps
    def link(self, Makes):
        self.postrun_cmds = [f"ln -s {Makes().stagedir}/sub/answer other"]
        links = {
            "inside": os.path.join(self.stagedir, "constants.txt"),
            "system": os.environ["RFM_TEST_ON_SYSTEM"],
            "back": self.stagedir,  # followed for ever if it were followed
            "above": os.path.dirname(self.stagedir),
        }
        for name, target in links.items():
            os.symlink(target, os.path.join(self.stagedir, name))

    @sanity_function
    def has_read(self):
        return sn.all(
            [
                sn.assert_found("3.14", self.stdout),
                sn.assert_found("there", self.stdout),
                sn.assert_found("42", "other"),
            ]
        )
