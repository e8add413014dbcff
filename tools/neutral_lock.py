"""Write a neutral address over the package index that a machine happened to resolve with.

`make install` takes versions and hashes from uv.lock and fetches from the machine's own configured index, so the lock
file stays the same wherever it was made. Usage: neutral_lock.py uv.lock
"""

import re
import sys
from pathlib import Path

NEUTRAL = "https://index.invalid"

file = Path(sys.argv[1])
text = file.read_text()
text = re.sub(r'registry = "https?://[^"]+"', f'registry = "{NEUTRAL}/simple"', text)
text = re.sub(r'url = "https?://[^/"]+/', f'url = "{NEUTRAL}/', text)
file.write_text(text)
