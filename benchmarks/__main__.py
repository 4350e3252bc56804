"""`python -m benchmarks [--quick]`: every measurement as one table; exits with 1 if a target was missed."""

from __future__ import annotations

import sys

from benchmarks import decode, importing, overhead, spending
from benchmarks._measure import Row, table


def main() -> int:
    """Measure everything, print the table, and return the exit code."""
    quick = "--quick" in sys.argv[1:]
    rows: list[Row] = []
    for part in (decode, overhead, spending, importing):
        rows.extend(part.measure(quick=quick))
    print(table(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
