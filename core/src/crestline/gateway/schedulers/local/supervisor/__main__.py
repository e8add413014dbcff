"""`python -I -m crestline.gateway.schedulers.local.supervisor <job directory> [<soft limit of file descriptors>]`."""

import sys

from crestline.gateway.schedulers.local.supervisor.supervise import supervise

if len(sys.argv) > 2:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
supervise(sys.argv[1])
