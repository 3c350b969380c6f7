"""Pages of HTML that need nothing else: no script, no font, no picture from elsewhere.

- `decision`: what a team decides by, from a table or a fit. `whole_loop`: the same of the demo, with its proof.
- `lead`: the decision in one sentence. `drawings`: figures. `elements`: tables, figures and sections as HTML.

    >>> from bimixjax.reports.html.elements import shown
    >>> shown("1 < 2")
    '<p>1 &lt; 2</p>'
"""
