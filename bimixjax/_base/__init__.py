"""The ground that every room stands on: rules for input, records and their files, float64, and how far long work is.

- `checks`: one function per rule, one `InputError` that says what was got, what is allowed, and where.
- `records`: frozen dataclasses that are pytrees, and strict JSON. `schema`: what a file of ours must hold.
- `arrays`: the array type of records. `summaries`: results in plain text, `notebooks` as HTML.
- `files`: files that are written whole or not at all. `provenance`, `sidecars`: what made them.
- `float64`: functions that compute in float64 whatever the caller's switch. `compilation`: what XLA is told when it
  compiles. `stages`: who listens to progress.

    >>> from bimixjax._base import checks
    >>> checks.positive("volume", 30_000)
    30000.0
"""
