"""The whole loop, from a corpus to a mixture that is trained to prove it.

- `designs`: which mixtures to train. `workflow`: corpus, entropies, swarm, fit, search and proof as one call.
- `decision`: what a team decides by, from one table; `influence`: what a mixture hangs on.
- `evidence`: what was measured, beside what was predicted.
- `verification`: whether files still are what they were when they were written, and so are their inputs.

    >>> from bimixjax.loop.workflow import LoopConfig
    >>> LoopConfig().law
    'auto'
"""
