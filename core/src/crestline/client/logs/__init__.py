"""The output of running jobs: `sources` read a growing file, `follow` its text, `output` a job's lines."""

from crestline.client.logs.follow import Follower, follow
from crestline.client.logs.output import JobOutput, OutputLine, Turn

__all__ = ["Follower", "JobOutput", "OutputLine", "Turn", "follow"]
