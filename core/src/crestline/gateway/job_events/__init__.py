"""Changes of jobs, told to whoever watches: one look at the scheduler per moment, however many watch."""

from crestline.gateway.job_events.feeds import JobFeeds
from crestline.gateway.job_events.marks import entity_tag
from crestline.gateway.job_events.stream import EventStream

__all__ = ["EventStream", "JobFeeds", "entity_tag"]
