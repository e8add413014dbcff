"""HelloWorld: compiled on the system, run there, and its output looked at here."""

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class HelloWorld(rfm.RegressionTest):
    """A program in C, with one and with two threads."""

    threads = parameter([1, 2])
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    sourcepath = "hello.c"
    build_system = "SingleSource"
    build_locally = False

    @run_before("compile")
    def choose_flags(self):
        self.build_system.cflags = ["-O2", "-pthread"]

    @run_before("run")
    def choose_threads(self):
        self.num_cpus_per_task = self.threads
        self.executable_opts = [str(self.threads)]

    @sanity_function
    def every_thread_says_hello(self):
        return sn.assert_eq(sn.count(sn.findall(r"Hello from thread \d+", self.stdout)), self.threads)
