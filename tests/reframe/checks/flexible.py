"""A test that takes all nodes it can get."""

import reframe.utility.sanity as sn

import reframe as rfm


@rfm.simple_test
class AllNodes(rfm.RunOnlyRegressionTest):
    valid_systems = ["*"]
    valid_prog_environs = ["builtin"]
    num_tasks = 0
    num_tasks_per_node = 1
    executable = 'hostname; echo "nodes $SLURM_JOB_NUM_NODES tasks $SLURM_NTASKS"'

    @sanity_function
    def has_all(self):
        return sn.assert_found(rf"tasks {self.num_tasks}$", self.stdout)
