"""Changes of jobs, sent to all watchers: one query of the scheduler at a time, however many clients watch."""

from crestline.gateway.job_events.feeds import JobFeeds
from crestline.gateway.job_events.fingerprints import entity_tag
from crestline.gateway.job_events.stream import EventStream

__all__ = ["EventStream", "JobFeeds", "entity_tag"]
