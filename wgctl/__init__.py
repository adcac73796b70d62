"""The operator's command. What each verb loads is the verb's."""

from __future__ import annotations

from meshd.lean import collect_rarely, load_uuid

collect_rarely()
load_uuid()
