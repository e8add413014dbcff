"""Stand-ins for tests of programs that use facilities: `pip install "crestline[testing]"`.

`firecrest`, `iri` and `gitlab_runner` are stand-ins that run real jobs on this machine and reproduce the defects of the
real servers. `fixtures` provides them to pytest. `simulation` runs the client on virtual time.
"""
