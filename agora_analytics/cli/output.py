"""Output to a terminal or a pipe: the only file that imports rich.

Results go to standard output: tables, or with `--json` one JSON object per line and nothing else. Notes, warnings and
progress go to standard error.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Generic, NoReturn, TypeVar

import attrs
from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from agora_analytics._core.decoding.json import encode
from agora_analytics._core.validation.values import printable
from agora_analytics.cli.formatting import ASCII, BLOCKS, FULL, WIDTH, bar, sparkline
from agora_analytics.cli.tables import Bar, Cell, Plot, Table

T = TypeVar("T")

# Wide enough for the ids and all columns of calls: `grep` and `cut` need a row on one line.
_PIPE_WIDTH = 200
"""Columns where standard output is not a terminal."""

_UNBOUNDED = 10_000
"""Columns in which every table has its natural width."""

_DATE = len("2026-11-24")

_MIN_TEXT = 12
"""Columns that a folded text keeps at least."""


@attrs.frozen
class _Layout:
    """Widths of plots and bars, and how space is saved.

    `tight` stacks the words of headings and leaves out optional columns; `folded` also wraps times and ids.
    """

    plot: int
    bar: int = 20
    tight: bool = False
    folded: bool = False


_WIDE = (_Layout(WIDTH), _Layout(WIDTH // 2), _Layout(WIDTH // 3, tight=True))
"""The first layout in which a table fits is used."""

_NARROW = _Layout(WIDTH // 3, bar=10, tight=True, folded=True)


@attrs.frozen
class LiveView:
    """Where a stream is shown: a table that is redrawn in place, or a line per event where that is not possible.

    A `notice` is a line that stays, above the table.
    """

    line: Callable[[str], None]
    table: Callable[[Table], None]
    notice: Callable[[str], None]


Advance = Callable[[float, str], None]
"""Sets how far a progress bar is, and the text beside it."""


class _Terminal(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Raise the error, where rich would exit the process."""
        raise  # noqa: PLE0704 - rich calls this while it handles the error


@attrs.frozen
class StepRow:
    """A JSON line of a command that prints several kinds of values: the kind, and the value."""

    step: str
    value: object


@attrs.frozen
class Listed(Generic[T]):
    """Result of a list: the number of items shown, the last one, and whether there are more."""

    count: int
    last: T | None
    more: bool


@attrs.frozen(kw_only=True)
class Screen:
    """Prints the results of a command; with a `step` its JSON lines carry that name."""

    json: bool = False
    step: str = ""

    def emit(self, value: object) -> None:
        """Write one JSON line and flush it."""
        # Bytes: JSON is UTF-8, whatever the encoding of the terminal.
        out = sys.stdout.buffer
        out.write(encode(StepRow(self.step, value) if self.step else value) + b"\n")
        # At once: the next event of a stream may be minutes away.
        out.flush()

    def emit_if_json(self, value: object) -> None:
        """Write one JSON line with `--json`, and nothing without."""
        if self.json:
            self.emit(value)

    def show(self, values: Sequence[object], *tables: Table) -> None:
        """Print a complete result: the values as JSON lines, or the tables."""
        if self.json:
            for value in values:
                self.emit(value)
            return
        for table in tables:
            self._print(table)

    async def stream(
        self, items: AsyncGenerator[T], what: str, view: Callable[[Sequence[T]], Sequence[Table]], limit: int | None
    ) -> Listed[T]:
        """Print up to `limit` items: JSON lines as they arrive, or tables at the end."""
        shown: list[T] = []
        count, more, last = 0, False, None
        with self.progress(what) as advance:
            async with aclosing(items) as rows:
                async for item in rows:
                    # One item beyond the limit is read, which shows that there are more.
                    if limit is not None and count >= limit:
                        more = True
                        break
                    count, last = count + 1, item
                    self.emit(item) if self.json else shown.append(item)
                    advance(count, f"{count:,}")
        self.show((), *view(shown))
        return Listed(count, last, more)

    def print(self, line: str = "") -> None:
        """Write a line to standard output; nothing with `--json`."""
        if not self.json:
            # Never wrapped: a URL or a command in it must stay in one piece to be copied.
            _console().print(Text(printable(line), style="bold"), soft_wrap=True)

    def note(self, line: str) -> None:
        """Write a line to standard error; nothing with `--json`."""
        if not self.json:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Write a line to standard error, with `--json` too."""
        if line:
            with suppress(OSError):  # a full disk or a closed pipe must not end the command
                _console(stderr=True).print(Text(printable(line), style="dim"), soft_wrap=True)

    @contextmanager
    def progress(self, what: str, total: float | None = None) -> Iterator[Advance]:
        """Show a progress bar, or a spinner without a total, on standard error if that is a terminal."""
        console = _console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[beside]}"))
        visible = _can_redraw(console) and not self.json
        bars = Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=not visible)
        with bars:
            task = bars.add_task(what, total=total, beside="")
            yield lambda done, beside: bars.update(task, completed=done, beside=beside)

    @contextmanager
    def live_table(self) -> Iterator[LiveView | None]:
        """Yield a view that redraws a table on standard error; None if that is not a terminal."""
        console = _console(stderr=True)
        if self.json or not _can_redraw(console):
            yield None
            return
        # Drawn on changes: a thread that refreshes would compete with the event loop for the interpreter lock.
        with Live(console=console, auto_refresh=False, transient=True) as display:
            yield LiveView(
                _ignore,
                lambda table: display.update(_fit(table, console), refresh=True),
                lambda line: console.print(Text(printable(line), style="dim"), soft_wrap=True),
            )

    @contextmanager
    def live(self, *, table: bool = False) -> Iterator[LiveView]:
        """Yield a view for the events of a stream; it prints nothing with `--json`.

        With `table` a terminal shows that instead of lines.
        """
        console = _console()

        def write(line: str) -> None:
            console.print(Text(printable(line)), soft_wrap=True)

        if self.json:
            yield LiveView(_ignore, _ignore, _ignore)
        elif table and _can_redraw(console):
            # Rich would cut a table that is higher than the terminal.
            with Live(console=console, auto_refresh=False, vertical_overflow="visible") as display:
                yield LiveView(_ignore, lambda table: display.update(_titled(table, console), refresh=True), write)
        else:
            yield LiveView(write, _ignore, write)

    def _print(self, table: Table) -> None:
        if not table.rows:
            self.print(": ".join(filter(None, (table.title, table.empty))))
            return
        console = _console()
        if table.title:
            self.print(table.title)
        console.print(_fit(table, console))
        self.print()


def _can_redraw(console: Console) -> bool:
    """Whether a console can redraw in place: not a pipe, and not with `TERM=dumb`."""
    return console.is_terminal and not console.is_dumb_terminal


def _ignore(_: object) -> None:
    """Print nothing."""


def _titled(table: Table, console: Console) -> Group:
    return Group(Text(printable(table.title), style="bold"), _fit(table, console))


def _fit(table: Table, console: Console) -> RenderableType:
    """Lay out a table in the width of the console: in columns if they fit, otherwise row by row."""
    natural = console.options.update(width=_UNBOUNDED)
    for layout in _WIDE:
        grid = _grid(table, console, layout)
        # Measured unbounded: rich would squeeze columns to fit, and call it a fit.
        if console.measure(grid, options=natural).maximum <= console.width:
            return _with_omitted(table, grid) if layout.tight else grid
    if (stacked := _stacked(table, console)) is not None:
        return _with_omitted(table, stacked)
    if sum(_min_width(table, at) + 2 for at in _visible(table, _NARROW)) - 2 <= console.width:
        return _with_omitted(table, _grid(table, console, _NARROW))
    return _records(table, console)


def _with_omitted(table: Table, shown: RenderableType) -> RenderableType:
    """Add a line that names the columns that are left out."""
    omitted = [table.columns[at].lstrip(">") for at in _visible(table, _WIDE[0]) if table.columns[at] in table.optional]
    return Group(shown, Text(f"no room for: {', '.join(omitted)}", style="dim")) if omitted else shown


def _stacked(table: Table, console: Console) -> Group | None:
    """Lay out a table of ids in columns, with each id on a line of its own above its row, so that it can be copied."""
    if not any(_MIN_TEXT < _width(row[0]) <= console.width for row in table.rows):
        return None
    rest = attrs.evolve(table, columns=table.columns[1:], rows=tuple(row[1:] for row in table.rows))
    grid, options = _grid(rest, console, _WIDE[-1]), console.options.update(width=_UNBOUNDED)
    lines = [Text("".join(part.text for part in line).rstrip()) for line in console.render_lines(grid, options)]
    if max(line.cell_len for line in lines) > console.width:
        return None
    head, rows = lines[: -len(table.rows)], lines[-len(table.rows) :]
    ids = (_cell(row[0], console, _WIDE[-1]) for row in table.rows)
    return Group(Text(table.columns[0]), *head, *(line for pair in zip(ids, rows, strict=True) for line in pair))


def _visible(table: Table, layout: _Layout) -> list[int]:
    """Return the columns to show: not the empty ones, and in a tight layout not the optional ones."""
    hidden = table.optional if layout.tight else ()
    return [at for at, name in enumerate(table.columns) if name not in hidden and any(row[at] for row in table.rows)]


def _grid(table: Table, console: Console, layout: _Layout) -> RichTable:
    """Lay out a table in columns."""
    tight = layout.tight
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0) if tight else (0, 1))
    visible = _visible(table, layout)
    for at in visible:
        name, number = table.columns[at].lstrip(">"), table.columns[at].startswith(">")
        grid.add_column(
            _heading(table, at) if tight else name,
            justify="right" if number else "left",
            overflow="fold",
            min_width=_min_width(table, at) if layout.folded else None,
            max_width=_DATE if layout.folded and _is_time(name) else None,
            no_wrap=tight and (not layout.folded or _never_folds(table, at)),
        )
    for row in table.rows:
        grid.add_row(*(_cell(row[at], console, layout) for at in visible))
    return grid


def _heading(table: Table, at: int) -> str:
    return table.columns[at].lstrip(">").replace(" ", "\n")


def _is_time(name: str) -> bool:
    return name.endswith("(UTC)")


def _never_folds(table: Table, at: int) -> bool:
    """Whether a column is never folded: numbers, plots and bars."""
    return table.columns[at].startswith(">") or any(not isinstance(row[at], str) for row in table.rows)


def _min_width(table: Table, at: int) -> int:
    """Return the least width of a column if times and ids are folded."""
    widths = [_width(row[at]) for row in table.rows] + [cell_len(word) for word in _heading(table, at).split("\n")]
    if _is_time(table.columns[at]):
        return _DATE
    return max(widths) if _never_folds(table, at) else min(max(widths), _MIN_TEXT)


def _width(cell: Cell) -> int:
    if isinstance(cell, Plot):
        return min(len(cell.series), _NARROW.plot)
    return _NARROW.bar if isinstance(cell, Bar) else cell_len(cell)


def _records(table: Table, console: Console) -> Group:
    """Lay out a table row by row, one line per cell, for a terminal too narrow for columns."""
    first, *rest = _visible(table, _Layout(WIDTH))
    layout = _Layout(WIDTH // 2, bar=10)
    parts: list[RenderableType] = []
    for row in table.rows:
        lines = RichTable.grid(padding=(0, 1), pad_edge=False)
        lines.add_column(style="dim", overflow="fold")
        lines.add_column(overflow="fold")
        for at in rest:
            if row[at]:
                lines.add_row(Text(f"  {table.columns[at].lstrip('>')}"), _cell(row[at], console, layout))
        parts += [Text(""), _cell(row[first], console, layout), lines]
    return Group(*parts[1:])


def _cell(cell: Cell, console: Console, layout: _Layout) -> Text:
    # Other encodings lack the block characters, and printing them would fail.
    unicode = console.encoding.startswith("utf")
    if isinstance(cell, Plot):
        plot = sparkline(cell.series, layout.plot, BLOCKS if unicode else ASCII)
        return Text(plot, style="cyan", no_wrap=True)
    if isinstance(cell, Bar):
        return Text(bar(cell.value, cell.highest, layout.bar, FULL if unicode else ASCII[-1]), no_wrap=True)
    return Text(printable(cell))


def _console(*, stderr: bool = False) -> Console:
    """Return a console for the current stream; a pipe gets tables of a fixed width."""
    # Names of channels are printed as they are: rich would read `[red]` and `:smile:` in them.
    console = _Terminal(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = _Terminal(stderr=stderr, highlight=False, markup=False, emoji=False, width=_PIPE_WIDTH)
    return console
