"""Runs from anyone's logs in, mixtures for anyone's trainer out.

- `naming`: what the columns of a foreign table mean, by rules such as `eval/*/loss` -> `loss/*`.

Nothing here needs JAX. Words: a *kind* is a format of runs or of a trainer's mixture; a *role* is what a column of a
foreign table is: a run's id, a share, a loss.

    >>> from bimixjax.interchange import naming
    >>> rules = naming.parse(["w_*=mixture/*", "eval/*/loss=loss/*"])
    >>> naming.roles(["run", "w_web", "eval/web/loss"], rules, [naming.Rule("run", "run")], "my.csv")
    {'run': 'run', 'w_web': 'mixture/web', 'eval/web/loss': 'loss/web'}
"""
