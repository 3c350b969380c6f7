"""A line on each law, for help that must not wait for JAX; the laws' docstrings say the rest."""

LINES = {
    "auto": "an average of laws, by errors on runs left out",
    "bimix": "own share and volume, each by a power",
    "bimix_offset": "bimix, finite at a share of zero",
    "bimix_sized": "bimix with model size",
    "bimix_transfer": "bimix in which other domains help",
    "bimix_transfer_linear": "the same, linear in the shares",
    "bimix_transfer_sized": "bimix_transfer with model size",
    "additive": "mixture and volume each add their part",
    "additive_sized": "additive with model size",
    "joint": "additive; the mixture scales the volume's part",
    "joint_sized": "joint with model size",
    "exponential": "law M4 of data mixing; no volume",
    "exponential_m1": "law M1 of data mixing; no volume",
    "exponential_m2": "law M2 of data mixing; no volume",
    "exponential_m3": "law M3 of data mixing; no volume",
    "log_linear": "exponential of a weighted sum; no volume",
    "power_linear": "own share to a power, others linear",
    "exponential_volume": "law M4 plus a power of volume",
    "exponential_m1_volume": "law M1 plus a power of volume",
    "exponential_m2_volume": "law M2 plus a power of volume",
    "exponential_m3_volume": "law M3 plus a power of volume",
    "log_linear_volume": "log_linear plus a power of volume",
    "power_linear_volume": "with a power of volume added",
    "chinchilla": "model size and volume; no mixture",
    "kaplan": "model size and volume, coupled; no mixture",
    "dcpt": "own share and volume, for continued training",
    "dcpt_sized": "dcpt with model size",
    "capacity": "model capacity shared out among domains",
}


def listed() -> str:
    """Return one line for each law, as the help of `--law` shows them."""
    lines = [f"{name}: {line}" for name, line in LINES.items()]
    return "\n".join([*lines, "LAW_repeated: repeated tokens count less", "LAW_epochs: and harm, both fitted"])
