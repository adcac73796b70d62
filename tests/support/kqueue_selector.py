"""A selector that refuses what kqueue(2) refuses."""

from __future__ import annotations

import errno
import select
import selectors
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike


class KqueueSelector(selectors.PollSelector):
    """As kqueue(2) does: a pipe whose other end is closed already is refused (sys_pipe.c), where Linux takes
    it and wakes whoever waits."""

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: object = None
    ) -> selectors.SelectorKey:
        if events & selectors.EVENT_WRITE:
            poll = select.poll()
            poll.register(fileobj, select.POLLERR)
            if poll.poll(5_000):
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        return super().register(fileobj, events, data)
