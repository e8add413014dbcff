"""A settings file for ReFrame that registers `firecrest-scheduler` and nothing else.

export RFM_CONFIG_FILES=$(crestline-reframe --fragment):site.yaml
"""

import crestline_reframe  # noqa: F401

site_configuration = {}
