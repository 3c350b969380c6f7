"""Tables, figures and documents of results: they show what was found, and fit nothing.

- `sheet`: a table that fits any screen. `layout`: how tables look, by rich and as Markdown.
- `tables`: results as such tables, with `coefficients`, `footnotes` and `lanes`. `documents`: what `--json` prints.
- `predictions`, `spread`: predicted losses beside measured ones, and what draws leave open.
- `comparisons`, `corpora`, `loop`: laws compared, token stores, the whole loop. `page`: its `report.md`.
- `figures`: drawings, by matplotlib. `html`: pages that need nothing else.

    >>> from bimixjax.reports.layout import markdown, table
    >>> print(markdown(table(["", "loss"], [["web", "3.1"]])))
    |  | loss |
    |:--|--:|
    | web | 3.1 |
"""
