"""Several sites behind one client: which of them a job goes to.

`choice` decides, `needs` reads what a job asks for, `looks` says how a system is and whether it can take the job,
`ledger` remembers where the job of a key went.
"""

from crestline.client.federation.choice import ANY, QUICK, Choice, choose_system, connect_any, is_any

__all__ = ["ANY", "QUICK", "Choice", "choose_system", "connect_any", "is_any"]
