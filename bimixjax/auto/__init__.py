"""`auto`: an average of several laws with correlated noise, weighted by their errors on runs left out.

A *member* k is a law f_k(r, s; z) whose coefficients z have standard normal priors: medians depend on whether a target
is a domain, and on how low its losses are among the domains. About it, log losses y of a swarm have white noise,
effects that all runs share at a step and that all steps share in a run, and a Gaussian process over mixtures, with the
covariance S (`noise`). A member is fitted by its posterior mode and predicts by kriging:

    z = argmin (y - log f_k(z))' S^-1 (y - log f_k(z)) + |z|^2,      alpha = Z' S^-1 (y - log f_k(z)),  Z: rows <- runs
    log loss_k(r, s) = log f_k(r, s; z) + kernel(r, runs)' alpha + step effect(s)

Its error is the mean |log loss_k - y| of the runs, each predicted without the part that it belongs to; the average is

    log loss = sum_k w_k log loss_k,      w_k ~ prior weight_k  error_k^(-8 K / (K + 8))  for K runs

The member "mean" is the mean of the runs: laws of the mixture share the weight that they earn beside it, and where one
predicts far outside the fitted range, "mean" takes its weight. The variance is that of the mixture of the members'
normal posteriors, scaled for each target by the errors on runs left out, and up with fewer runs than domains. Intervals
have the tails of Student's t; that of a weighted mean of targets takes the correlation of their errors.

Words: a *run* is a mixture, a *volume* the tokens or steps at which all runs are evaluated; a *row* is one loss, a
*cell* the grid of runs x volumes of one model size in one fold, a *lane* one target of a cell, last in every array. A
*part* is the runs that are left out together, a *block* the lanes that are worked on together, a *stack* the fits of
all members to some lanes. *alpha* is S^-1 times residuals, summed over each run; the *spread* scales standard
deviations. A *donor* is a smaller model size, measured on more mixtures, whose losses are a covariate of a larger one.

- `members`: the laws, their priors and processes. `noise`: S. `grids`: from a table to cells.
- `law_values`: all that is compiled, the log of a law and its slopes. `member`: fit and predict with it, in many lanes.
- `block`, `member_fits`: one member on some lanes; all members on all lanes, on all cores.
- `left_out`: predictions of parts in closed form. `averaging`: weights and spreads. `outlying`: rows without weight.
- `donor`: several model sizes. `beyond`: sizes that were not fitted. `estimate`, `folds`: one table, many folds of it.
- `one_size`, `reading`, `mean`: a fit at one point, inside any transform; at many, with its variance; with slopes.
- `losses`, `result`, `files`: what a user gets, and its file. `reweight`, `resampling`, `draws`: its uncertainty.

    >>> import bimixjax, pandas as pd
    >>> table = {"run": ["a", "b", "c"], "mixture/x": [0.25, 0.9, 0.5], "mixture/y": [0.75, 0.1, 0.5]}
    >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.0, 2.0, 2.8]}))
    >>> fit = bimixjax.fit(bimixjax.Auto(members=("offset", "mean")), observations)
    >>> 2.0 < float(fit.predict([0.7, 0.3])[0]) < 2.8, list(fit.members)
    (True, ['offset', 'mean'])
"""
