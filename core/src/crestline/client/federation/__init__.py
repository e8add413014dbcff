"""Several sites behind one client: choosing the site for a job.

`choice` decides. `requirements` reads what a job requests, `probe` checks a system's health and whether it can run the
job, and `ledger` records the site that a key's job went to.
"""

from crestline.client.federation.choice import ANY, QUICK, Choice, choose_system, connect_any, is_any

__all__ = ["ANY", "QUICK", "Choice", "choose_system", "connect_any", "is_any"]
