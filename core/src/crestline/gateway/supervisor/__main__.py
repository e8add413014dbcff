"""`python -I -m crestline.gateway.supervisor <job directory>`."""

import sys

from crestline.gateway.supervisor.supervise import supervise

supervise(sys.argv[1])
