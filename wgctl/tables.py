"""Tables that fit: on a narrow terminal columns give way in an order, and no word is broken.

What happens, in this order, until the table fits the width:

1. Columns of running text go below their row, or beside the others where enough room is left.
2. The column that gives way first is left out, then the next one; a last line names them.
3. What is left is wrapped between words, the widest column first.

Anything but a terminal has no width: there each row is one line and has all columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from meshd.model.text import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

GAP: Final = 2
INDENT: Final = 4
"""Of text below its row."""
LEAST_TEXT: Final = 36
"""Characters that a column of running text needs beside the others."""
FAINT: Final = "bright_black"

Cell = str | tuple[str, str]
"""Text, or text with a style."""
_Piece = tuple[str, str]
_Line = list[_Piece]


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """``gives_way``: of two columns the one with the higher number is left out first; 0: never. ``text``:
    running text, best as the last column."""

    name: str = ""
    right: bool = False
    gives_way: int = 0
    text: bool = False


class _Placed(msgspec.Struct, frozen=True):
    """A column's index and the width that it got."""

    index: int
    width: int


class Table:
    """Something that a rich console prints."""

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        self._columns = tuple(columns)
        self._rows = [[(printable(text), style) for text, style in map(_styled, row)] for row in rows]
        self._natural = [
            max((len(text) for text in (column.name, *(row[index][0] for row in self._rows))), default=0)
            for index, column in enumerate(self._columns)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        for line in self.lines(options.max_width):
            yield Text.assemble(*line, overflow="fold")

    @property
    def natural_width(self) -> int:
        """Of the page that shows it all side by side, in characters."""
        return _total(self._natural)

    def lines(self, width: int) -> Iterator[_Line]:
        """The table as pieces of text and their styles, for a page of ``width`` characters."""
        placed, below, left_out = self._place(width)
        if any(column.name for column in self._columns):
            header: list[_Piece] = [(column.name, "bold") for column in self._columns]
            yield from self._row(header, placed)
        for row in self._rows:
            yield from self._row(row, placed)
            for index in below:
                for text in wrap(row[index][0], width - INDENT):
                    yield [(" " * INDENT + text, row[index][1])]
        if left_out:
            names = ", ".join(self._columns[index].name for index in left_out)
            for text in wrap(f"left out at this width: {names}", width):
                yield [(text, FAINT)]

    def _place(self, width: int) -> tuple[list[_Placed], list[int], list[int]]:
        """Columns side by side, those below, those left out."""
        natural, everything = self._natural, range(len(self._columns))
        if _total(natural) <= width:
            return [_Placed(index, natural[index]) for index in everything], [], []
        texts = [index for index in everything if self._columns[index].text]
        beside = [index for index in everything if index not in texts]
        left_out = []
        while _total([natural[index] for index in beside]) > width:
            last = max(beside, key=lambda index: self._columns[index].gives_way, default=None)
            if last is None or not self._columns[last].gives_way:
                break
            beside.remove(last)
            left_out.append(last)
        for index in sorted(left_out, key=lambda index: self._columns[index].gives_way):
            # A wide one is gone, so a narrow one that went before it may fit again.
            if _total([natural[each] for each in (*beside, index)]) <= width:
                beside.append(index)
        left_out = [index for index in left_out if index not in beside]
        beside.sort()
        placed = self._shrink([_Placed(index, natural[index]) for index in beside], width)
        room = width - _total([each.width for each in placed]) - GAP
        if len(texts) == 1 and room >= min(LEAST_TEXT, natural[texts[0]]):
            placed = sorted([*placed, _Placed(texts[0], room)], key=lambda each: each.index)
            texts = []
        return placed, texts, sorted(left_out)

    def _shrink(self, placed: list[_Placed], width: int) -> list[_Placed]:
        """Wrap the widest columns as far as their words allow."""
        least = {each.index: self._longest_word(each.index) for each in placed}
        while _total([each.width for each in placed]) > width:
            widest = max(placed, key=lambda each: (each.width > least[each.index], each.width), default=None)
            if widest is None or widest.width <= least[widest.index]:
                break
            place = placed.index(widest)
            placed[place] = replace(widest, width=widest.width - 1)
        return placed

    def _longest_word(self, index: int) -> int:
        cells = [self._columns[index].name, *(row[index][0] for row in self._rows)]
        return max((len(word) for cell in cells for word in cell.split(" ")), default=0)

    def _row(self, row: Sequence[_Piece], placed: Sequence[_Placed]) -> Iterator[_Line]:
        """One row, which is several lines where a cell is wrapped."""
        columns = [list(wrap(row[each.index][0], each.width)) for each in placed]
        for texts in zip_longest(*columns, fillvalue="") if any(columns) else [[""] * len(placed)]:
            line: _Line = []
            for number, (each, text) in enumerate(zip(placed, texts, strict=True)):
                is_last = number == len(placed) - 1
                style = row[each.index][1]
                if self._columns[each.index].right:
                    line.append((" " * (each.width - len(text)), ""))
                    line.append((text, style))
                else:
                    line.append((text, style))
                    if not is_last:
                        line.append((" " * (each.width - len(text)), ""))
                if not is_last:
                    line.append((" " * GAP, ""))
            yield line


def wrap(text: str, width: int) -> Iterator[str]:
    """``text`` in lines of at most ``width`` characters, broken at spaces alone; longer words stay whole."""
    line = ""
    for word in text.split(" ") if len(text) > width else [text]:
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        yield line


def build_table(
    headers: Sequence[str | Column], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = ()
) -> Table:
    """A table; the columns named in ``right`` are aligned right, as numbers are."""
    columns = [
        header if isinstance(header, Column) else Column(name=header, right=header in right)
        for header in headers
    ]
    return Table(columns, rows)


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(len(widths) - 1, 0)


def _styled(cell: Cell) -> _Piece:
    return (cell, "") if isinstance(cell, str) else cell
