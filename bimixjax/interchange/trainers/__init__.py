"""The trainers whose files are written and read, one class per form of file.

- `base`: what a trainer is. `parsing`, `snippets`: values out of JSON, YAML and Python.
- `levanter`, `grain` (and MaxText), `megatron` (and NeMo, GPT-NeoX), `sampling` (HF datasets, RegMix, DoReMi), `olmo`,
  `nanotron`, `streaming`, `plain`: the trainers.

Of two forms of one trainer the suffix tells which is meant: `.txt` for words of a command line, `.json` for a file.

    >>> from bimixjax.interchange.trainers import KINDS, of_kind
    >>> KINDS[:3], of_kind("maxtext", ".json").title
    (('levanter', 'maxtext', 'grain'), 'MaxText (JSON)')
"""

from typing import Any

from bimixjax._base.checks import InputError, choice
from bimixjax.interchange.trainers.base import Trainer as Trainer
from bimixjax.interchange.trainers.grain import Grain, MaxTextFlag, MaxTextMixture
from bimixjax.interchange.trainers.levanter import Levanter
from bimixjax.interchange.trainers.megatron import GPTNeoX, MegatronArguments, MegatronSplits, NeMo
from bimixjax.interchange.trainers.nanotron import Nanotron
from bimixjax.interchange.trainers.olmo import OLMoCore
from bimixjax.interchange.trainers.plain import PlainCSV, PlainJSON
from bimixjax.interchange.trainers.sampling import DoReMi, HuggingFace, RegMix
from bimixjax.interchange.trainers.streaming import Streaming

# The usual form of each first; where a file may be of several, the first that recognizes it has it.
TRAINERS: tuple[Trainer, ...] = (
    *(Levanter(), MaxTextFlag(), MaxTextMixture(), Grain(), MegatronArguments(), MegatronSplits(), NeMo(), GPTNeoX()),
    *(Streaming(), HuggingFace(), OLMoCore(), Nanotron(), RegMix(), DoReMi(), PlainJSON(), PlainCSV()),
)
KINDS = tuple(dict.fromkeys(trainer.kind for trainer in TRAINERS))


def of_kind(kind: str, suffix: str | None = None) -> Trainer:
    """Return the trainer of a kind, in the form that has the suffix; without one, in its usual form.

    Raises:
        InputError: for another kind, or a suffix of none of its files.
    """
    choice("the kind of trainer", kind, KINDS)
    forms = [trainer for trainer in TRAINERS if trainer.kind == kind]
    fitting = [trainer for trainer in forms if suffix is None or suffix in trainer.suffixes]
    if not fitting:
        allowed = ", ".join(each for trainer in forms for each in trainer.suffixes)
        raise InputError(f"files of {kind} do not end in {suffix or 'no suffix'!r}; allowed: {allowed}")
    return fitting[0]


def recognized(found: Any, suffix: str, where: str) -> Trainer:
    """Return the trainer of a file by its content.

    Raises:
        InputError: where it is that of none.
    """
    if isinstance(found, dict) and {"domains", "proportions"} <= set(found):
        raise InputError(f"{where} is what `bimix optimize --out` wrote, and no file of a trainer; export it first")
    for trainer in TRAINERS:
        if suffix in trainer.suffixes and trainer.recognizes(found):
            return trainer
    raise InputError(f"{where} is of no kind that is known by its content; --from says which: {', '.join(KINDS)}")
