"""Crestline: workflow engines on supercomputers through one REST API, FirecREST v2.

`crestline.client` talks to any FirecREST v2 gateway, `crestline.gateway` is one, `crestline.model` holds the words both
use, `crestline.wire` what crosses between them, and `crestline.cli` is the `crestline` command.
"""

__version__ = "0.1.0"
