"""`auto`: several laws with correlated noise, averaged by what they miss on runs that are left out.

- `members`: the laws that are averaged, each with its priors. `noise`: the covariance of a swarm's log losses.
- `grids`: a table as grids of runs x volumes, one *cell* per fold and model size.
- `member`: one law fitted to many lanes of a grid, and read elsewhere. `member_fits`: all of them, on all cores.
- `left_out`: what the fit would say of some runs without them. `averaging`: weights from that, and where a member
  leaves all sense. `outlying`: rows that do not belong to the others.
- `donor`: a larger model size that also reads what a smaller one says. `beyond`: sizes that were not fitted.
- `estimate`, `one_size`, `result`, `files`: what a user gets, and its file. `folds`: the same in many folds at once.
- `draws`, `reweight`, `resampling`: how sure it is.

    >>> import bimixjax, pandas as pd
    >>> table = {"run": ["a", "b", "c"], "mixture/x": [0.25, 0.9, 0.5], "mixture/y": [0.75, 0.1, 0.5]}
    >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.0, 2.0, 2.8]}))
    >>> fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), observations)
    >>> 2.0 < float(fit.predict([0.7, 0.3])[0]) < 2.8
    True
"""
