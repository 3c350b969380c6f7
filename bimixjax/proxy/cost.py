"""What training costs in floating-point operations, and what a device could do."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from bimixjax.proxy.design import Design
from bimixjax.proxy.model import ModelConfig

if TYPE_CHECKING:
    from bimixjax.proxy.settings import SwarmConfig

# Dense bfloat16 operations a second by the start of the device's kind, of which the longest counts; data sheets of
# NVIDIA (SXM parts where there are several) and of Google Cloud.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA GH200": 989e12,
    "NVIDIA B200": 2250e12,
    "TPU v4": 275e12,
    "TPU v5": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v6 lite": 918e12,
}


def flops_per_token(model: ModelConfig) -> float:
    """Return the operations that training takes for each token, without those that remat repeats.

        6 N + 12 l D L

    with N the parameters that multiply (an untied embedding is looked up only), l layers of width D and L the context:
    appendix B of PaLM (arXiv 2204.02311), where attention counts in full, as if it were not causal.

    Example:
        >>> flops_per_token(ModelConfig.preset("1m"))
        7086336.0
    """
    products = model.size - (0 if model.tied else model.vocab * model.width)
    return 6.0 * products + 12.0 * model.layers * model.width * model.context


def design_flops(design: Design, config: "SwarmConfig") -> Float[np.ndarray, " n"]:
    """Return the operations that training takes for each run of a design, measurements apart.

    Example:
        >>> from bimixjax.proxy import SwarmConfig
        >>> design = Design.make(["even"], ["a", "b"], [[0.5, 0.5]]).of_models(["0.1m", "1m"])
        >>> [f"{flops:.2e}" for flops in design_flops(design, SwarmConfig(steps=100))]
        ['1.82e+11', '1.45e+12']
    """
    sizes = {model: config.of_model(model) for model in dict.fromkeys(design.models or ())}
    each = [sizes[model] for model in design.models] if design.models else [config] * len(design)
    return np.array([one.steps * one.train.tokens_per_step * flops_per_token(one.train.model) for one in each])


def utilization(tokens_per_second: float, model: ModelConfig, device_kind: str, devices: int) -> float | None:
    """Return the share of the devices' bfloat16 peak that goes into the model; None where that peak is not known.

    Example:
        >>> round(utilization(1e6, ModelConfig.preset("85m"), "NVIDIA H100 80GB HBM3", 1), 3)
        0.531
    """
    known = [kind for kind in PEAKS if device_kind.startswith(kind)]
    if not known:
        return None
    return tokens_per_second * flops_per_token(model) / (PEAKS[max(known, key=len)] * devices)
