"""The process. Importing this package first has values loaded without what they do not use.

That is half a MiB that a daemon would keep, and some ms of each command.
"""

from __future__ import annotations

from meshd.lean import collect_rarely, load_values

collect_rarely()
load_values()
