"""Messages between two MPI ranks: latency and bandwidth."""

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class PingPong(rfm.RegressionTest):
    """Compiled with the system's MPI compiler."""

    valid_systems = ["*"]
    valid_prog_environs = ["+mpi"]
    sourcepath = "pingpong.c"
    build_system = "SingleSource"
    build_locally = False
    num_tasks = 2

    @run_before("compile")
    def choose_compiler(self):
        self.build_system.cc = "mpicc"

    @sanity_function
    def both_ranks_took_part(self):
        return sn.assert_found(r"2 ranks", self.stdout)

    @performance_function("us")
    def latency(self):
        return sn.extractsingle(r"latency (\S+) us", self.stdout, 1, float)

    @performance_function("MB/s")
    def bandwidth(self):
        return sn.extractsingle(r"bandwidth (\S+) MB/s", self.stdout, 1, float)
