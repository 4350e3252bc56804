"""Ready SQL over the files of an export: DuckDB views of its datasets, and questions that a quality team asks.

```python
from agora_analytics.export import queries

for name, question in queries.QUESTIONS.items():
    print(name, question.text)
print(queries.run("worst_networks", "data").rows)
```

Each question is a file in `sql/`, to read, copy and change. It needs the extra `duckdb`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agora_analytics._core.lazy import door

if TYPE_CHECKING:
    from agora_analytics.export.queries.questions import *
    from agora_analytics.export.queries.running import *

__all__ = ["QUESTIONS", "QueryResult", "Question", "connect", "run", "views"]

__getattr__, __dir__ = door(globals(), "questions", "running")
