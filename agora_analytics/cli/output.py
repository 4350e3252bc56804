"""What reaches the screen or the pipe: the only file that imports rich.

With `--json` standard output carries one JSON object a line and nothing else. Tables go there too, for people; notes
and progress go to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Generic, NoReturn, TypeVar

import attrs
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live as Moving
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

from agora_analytics._core.decoding.json import encode
from agora_analytics.cli.formatting import ASCII, BLOCKS, FULL, WIDTH, bar, printable, sparkline
from agora_analytics.cli.tables import Bar, Cell, Plot, Table

T = TypeVar("T")

_PIPED = 200
"""Columns of what is not a terminal."""

_UNBOUNDED = 10_000
"""Columns in which any table has its natural width."""

_DATE = len("2026-11-24")

_ID = 12
"""Columns that a text keeps at least where it is folded."""


@attrs.frozen
class _Layout:
    """How wide plots and bars are, and what is done to save room.

    `tight` puts the words of headings below each other and does without columns that can be spared; `folded` also folds
    times and ids onto further lines.
    """

    plot: int
    bar: int = 20
    tight: bool = False
    folded: bool = False


_WIDE = (_Layout(WIDTH), _Layout(WIDTH // 2), _Layout(WIDTH // 3, tight=True))
"""The first with which a table fits as it is gets taken."""

_NARROW = _Layout(WIDTH // 3, bar=10, tight=True, folded=True)


@attrs.frozen
class Live:
    """A table that is drawn anew in its place, or lines where there is no terminal."""

    say: Callable[[str], None]
    table: Callable[[Table], None]


Advance = Callable[[float, str], None]
"""Tell how far something is, and what to say beside it."""


class _Terminal(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the error through, where rich would end the process by itself."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


@attrs.frozen
class Step:
    """A JSON line of a command that shows things of different kinds: which, and the thing."""

    step: str
    value: object


@attrs.frozen
class Seen(Generic[T]):
    """What a list came to: how many were shown, the last of them, and whether there are more."""

    count: int
    last: T | None
    more: bool


@attrs.frozen(kw_only=True)
class Screen:
    """Where a command's results go; with a `step` its JSON lines say it."""

    json: bool = False
    step: str = ""

    def emit(self, value: object) -> None:
        """Write one JSON line, at once."""
        out = sys.stdout.buffer
        out.write(encode(Step(self.step, value) if self.step else value) + b"\n")
        out.flush()

    def show(self, values: Sequence[object], *tables: Table) -> None:
        """Show values that are complete: as JSON lines, or as these tables."""
        if self.json:
            for value in values:
                self.emit(value)
            return
        for table in tables:
            self._print(table)

    async def stream(
        self, items: AsyncGenerator[T], what: str, view: Callable[[Sequence[T]], Sequence[Table]], limit: int | None
    ) -> Seen[T]:
        """Show items as they come: JSON lines one by one, or tables of the first `limit`; return what there was."""
        found: list[T] = []
        count, more, last = 0, False, None
        with self.progress(what) as advance:
            async with aclosing(items) as rows:
                async for item in rows:
                    if limit is not None and count >= limit:
                        more = True
                        break
                    count, last = count + 1, item
                    self.emit(item) if self.json else found.append(item)
                    advance(count, f"{count:,}")
        self.show((), *view(found))
        return Seen(count, last, more)

    def say(self, line: str = "") -> None:
        """Write a line for people to standard output."""
        if not self.json:
            _console().print(Text(printable(line), style="bold"), soft_wrap=True)

    def note(self, line: str) -> None:
        """Write a line for people to standard error."""
        if not self.json:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Write a line to standard error that must not be missed, whatever standard output carries."""
        if line:
            _console(stderr=True).print(Text(printable(line), style="dim"), soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: float | None = None) -> Iterator[Advance]:
        """Show a bar, or a spinner where no total is known, on standard error if that is a terminal."""
        console = _console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[beside]}"))
        shown = _redraws(console) and not self.json
        bars = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not shown)
        with bars:
            task = bars.add_task(what, total=total, beside="")
            yield lambda done, beside: bars.update(task, completed=done, beside=beside)

    @contextmanager
    def board(self) -> Iterator[Callable[[Table], None] | None]:
        """Show a table that moves, on standard error if that is a terminal; else there is nothing to draw on."""
        console = _console(stderr=True)
        if self.json or not _redraws(console):
            yield None
            return
        with Moving(console=console, auto_refresh=False, transient=True) as moving:
            yield lambda table: moving.update(_fitted(table, console), refresh=True)

    @contextmanager
    def live(self, *, table: bool = False) -> Iterator[Live]:
        """Show a line for each event, on a terminal a table that moves if there is one; nothing of it with `--json`."""
        console = _console()
        if self.json:
            yield Live(_nothing, _nothing)
        elif table and _redraws(console):
            with Moving(console=console, auto_refresh=False, vertical_overflow="visible") as moving:
                yield Live(_nothing, lambda table: moving.update(_moving(table, console), refresh=True))
        else:
            yield Live(lambda line: console.print(Text(printable(line)), soft_wrap=True), _nothing)

    def _print(self, table: Table) -> None:
        if not table.rows:
            self.say(": ".join(filter(None, (table.title, table.empty))))
            return
        console = _console()
        if table.title:
            self.say(table.title)
        console.print(_fitted(table, console))
        self.say()


def _redraws(console: Console) -> bool:
    """Whether what was drawn can be drawn anew in its place: not on a pipe, and not with `TERM=dumb`."""
    return console.is_terminal and not console.is_dumb_terminal


def _nothing(_: object) -> None:
    """Show nothing."""


def _moving(table: Table, console: Console) -> Group:
    return Group(Text(printable(table.title), style="bold"), _fitted(table, console))


def _fitted(table: Table, console: Console) -> RenderableType:
    """Lay a table out as wide as the console has room for: as a grid, or else row by row."""
    natural = console.options.update(width=_UNBOUNDED)
    for layout in _WIDE:
        grid = _grid(table, console, layout)
        if console.measure(grid, options=natural).maximum <= console.width:
            return _noted(table, grid) if layout.tight else grid
    if (stacked := _stacked(table, console)) is not None:
        return _noted(table, stacked)
    if sum(_least(table, at) + 2 for at in _kept(table, _NARROW)) - 2 <= console.width:
        return _noted(table, _grid(table, console, _NARROW))
    return _records(table, console)


def _noted(table: Table, shown: RenderableType) -> RenderableType:
    """Say which columns there was no room for."""
    whole = [table.columns[at].lstrip(">") for at in _kept(table, _WIDE[0]) if table.columns[at] in table.spare]
    return Group(shown, Text(f"no room for: {', '.join(whole)}", style="dim")) if whole else shown


def _stacked(table: Table, console: Console) -> Group | None:
    """Lay a table of ids out in columns, with each id on a line above its row: in two parts nobody could copy it."""
    if not any(_ID < _width(row[0]) <= console.width for row in table.rows):
        return None
    rest = attrs.evolve(table, columns=table.columns[1:], rows=tuple(row[1:] for row in table.rows))
    grid, options = _grid(rest, console, _WIDE[-1]), console.options.update(width=_UNBOUNDED)
    lines = [Text("".join(part.text for part in line).rstrip()) for line in console.render_lines(grid, options)]
    if max(line.cell_len for line in lines) > console.width:
        return None
    head, rows = lines[: -len(table.rows)], lines[-len(table.rows) :]
    ids = (_cell(row[0], console, _WIDE[-1]) for row in table.rows)
    return Group(Text(table.columns[0]), *head, *(line for pair in zip(ids, rows, strict=True) for line in pair))


def _kept(table: Table, layout: _Layout) -> list[int]:
    """Return which columns are shown: those without content are not, and where room is short those to spare."""
    spare = table.spare if layout.tight else ()
    return [at for at, name in enumerate(table.columns) if name not in spare and any(row[at] for row in table.rows)]


def _grid(table: Table, console: Console, layout: _Layout) -> Grid:
    """Lay a table out in columns."""
    tight = layout.tight
    grid = Grid(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0) if tight else (0, 1))
    kept = _kept(table, layout)
    for at in kept:
        name, number = table.columns[at].lstrip(">"), table.columns[at].startswith(">")
        grid.add_column(
            _heading(table, at) if tight else name,
            justify="right" if number else "left",
            overflow="fold",
            min_width=_least(table, at) if layout.folded else None,
            max_width=_DATE if layout.folded and _is_time(name) else None,
            no_wrap=tight and (not layout.folded or _is_whole(table, at)),
        )
    for row in table.rows:
        grid.add_row(*(_cell(row[at], console, layout) for at in kept))
    return grid


def _heading(table: Table, at: int) -> str:
    return table.columns[at].lstrip(">").replace(" ", "\n")


def _is_time(name: str) -> bool:
    return name.endswith("(UTC)")


def _is_whole(table: Table, at: int) -> bool:
    """Whether a column is never folded: a number, or what is drawn."""
    return table.columns[at].startswith(">") or any(not isinstance(row[at], str) for row in table.rows)


def _least(table: Table, at: int) -> int:
    """Return the columns that a column of a table needs where its times and ids are folded."""
    widths = [_width(row[at]) for row in table.rows] + [cell_len(word) for word in _heading(table, at).split("\n")]
    if _is_time(table.columns[at]):
        return _DATE
    return max(widths) if _is_whole(table, at) else min(max(widths), _ID)


def _width(cell: Cell) -> int:
    if isinstance(cell, Plot):
        return min(len(cell.pairs), _NARROW.plot)
    return _NARROW.bar if isinstance(cell, Bar) else cell_len(cell)


def _records(table: Table, console: Console) -> Group:
    """Lay a table out row by row, a line for each cell, for a terminal too narrow for columns."""
    first, *rest = _kept(table, _Layout(WIDTH))
    layout = _Layout(WIDTH // 2, bar=10)
    parts: list[RenderableType] = []
    for row in table.rows:
        lines = Grid.grid(padding=(0, 1), pad_edge=False)
        lines.add_column(style="dim", overflow="fold")
        lines.add_column(overflow="fold")
        for at in rest:
            if row[at]:
                lines.add_row(Text(f"  {table.columns[at].lstrip('>')}"), _cell(row[at], console, layout))
        parts += [Text(""), _cell(row[first], console, layout), lines]
    return Group(*parts[1:])


def _cell(cell: Cell, console: Console, layout: _Layout) -> Text:
    drawn = console.encoding.startswith("utf")
    if isinstance(cell, Plot):
        plot = sparkline(cell.pairs, layout.plot, BLOCKS if drawn else ASCII)
        return Text(plot, style="cyan", no_wrap=True)
    if isinstance(cell, Bar):
        return Text(bar(cell.value, cell.highest, layout.bar, FULL if drawn else ASCII[-1]), no_wrap=True)
    return Text(printable(cell))


def _console(*, stderr: bool = False) -> Console:
    """Return a console of the stream as it is now; pipes get lines as long as their tables."""
    console = _Terminal(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = _Terminal(stderr=stderr, highlight=False, markup=False, emoji=False, width=_PIPED)
    return console
