"""What tests of programs that use facilities need, for us and for others: `pip install "crestline[testing]"`.

`firecrest`, `iri` and `gitlab_runner` are stand-ins that run real jobs on this machine and have the defects of the
real ones; `fixtures` offers them to pytest; `simulation` runs the client on virtual time.
"""
