"""What columns are taken for where the user says nothing: names that trainers and trackers give them.

Levanter logs `eval/<set>/loss` (marin-community/marin, 1ff034e), MaxText `eval/avg_loss` (AI-Hypercomputer/maxtext,
000e6d8, `common/metric_logger.py`), OLMo-core `eval/lm/<set>/CE loss`; W&B has `_step`, and `Name` and `ID` in the CSV
of the runs; SLDBench has `proportion_domain_i` and `loss_domain_i`. Those of olmix and RegMix are in `tables`.
"""

from bimixjax.interchange.naming import Rule


def _all(role: str, *names: str) -> tuple[Rule, ...]:
    return tuple(Rule(name, role) for name in names)


# Of several columns the first has the role. A nameless one is the index that pandas wrote.
RUN = _all("run", "run", "run_id", "run_name", "ID", "id", "Name", "name", "index", "Unnamed: 0")
VOLUME = (
    *_all("step", "step", "_step", "Step", "global_step", "trainer/global_step", "train/global_step", "iteration"),
    *_all("tokens", "tokens", "total_tokens", "throughput/total_tokens", "n_tokens"),
)
SETTINGS = (
    *_all("seed", "seed"),
    *_all("model_size", "model_size", "n_params", "num_params", "parameter_count"),
    *_all("unique/*", "unique/*"),
)
# Configurations are flattened with / or, by W&B and MLflow, with a point.
MIXTURE = (
    *_all("mixture/*", "mixture/*", "train_weights/*", "*/train_weights/*", "train_weights.*", "*.train_weights.*"),
    *_all("mixture/*", "train_domain_weights/*"),
    Rule("proportion_domain_*", "mixture/domain_*"),
)
LOSS = (
    *_all("loss/eval", "eval/avg_loss"),
    *_all("loss/*", "loss/*", "eval/*/loss", "eval/lm/*/CE loss", "metric/*_val_loss"),
    Rule("loss_domain_*", "loss/domain_*"),
    *_all("accuracy/*", "accuracy/*"),
)
WIDE = (*RUN, *VOLUME, *SETTINGS, *MIXTURE, *LOSS)
KEPT = (*WIDE, Rule("*", "meta/*"))


def behind(prefix: str, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Return the rules for columns that have a prefix before their names."""
    return tuple(Rule(prefix + rule.pattern, rule.role) for rule in rules)
