"""Bytes of a device that XLA plans for a swarm, beside those of our own plan; nothing is allocated.

Programs are compiled for shapes alone, on fake CPU devices, with the loop over blocks that accelerators run.

Run: `python benchmarks/swarm_memory.py`; `--case` for one of them.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

DEVICES = 8
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Memory is planned before LLVM sees a program, whose optimization of it would take minutes and many GiB.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
FLAGS += f" --xla_force_host_platform_device_count={DEVICES}"
os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"

import _report  # noqa: E402
import jax  # noqa: E402 - reads the environment when it is imported
import jax.numpy as jnp  # noqa: E402

from bimixjax.proxy import ModelConfig, TrainConfig, make_mesh  # noqa: E402
from bimixjax.proxy.batches import Sampler, Validation, read_resident  # noqa: E402
from bimixjax.proxy.memory import GIB, Plan, Wishes, make_plan  # noqa: E402
from bimixjax.proxy.programs import make_programs  # noqa: E402

HERE = Path(__file__).resolve().parent
DOMAINS, WINDOWS = 17, 64
MOST = 60 * GIB


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A swarm: sizes of the model, members, batch and mesh, and what is settled of its layout."""

    layers: int
    width: int
    heads: int
    vocab: int = 50_304
    context: int = 1024
    dtype: str = "float32"
    members: int = 64
    batch: int = 16
    data: int = 1
    model: int = 1
    tokens: int = 2**30
    memory: float = MOST
    remat: bool | None = None
    stack: int | None = None
    deterministic: bool = False


CASES = {
    "64 x 91M": Case(layers=12, width=640, heads=10, vocab=50_304),
    "64 x 91M, bfloat16": Case(layers=12, width=640, heads=10, dtype="bfloat16"),
    "64 x 91M, remat": Case(layers=12, width=640, heads=10, remat=True),
    "64 x 91M, 16 GiB": Case(layers=12, width=640, heads=10, memory=16 * GIB),
    "1.1B on model=8": Case(layers=20, width=2048, heads=16, members=1, model=8),
    "1.1B on data=8, 12 GiB": Case(layers=20, width=2048, heads=16, members=1, data=8, memory=12 * GIB),
    "64 x 91M, bfloat16, deterministic": Case(layers=12, width=640, heads=10, dtype="bfloat16", deterministic=True),
    "1.1B on data=8, 12 GiB, deterministic": Case(
        layers=20, width=2048, heads=16, members=1, data=8, memory=12 * GIB, deterministic=True
    ),
    "64 x 1M, bytes": Case(layers=5, width=128, heads=4, vocab=256, stack=8),
    "small": Case(layers=2, width=64, heads=2, vocab=2048, context=128, members=16, stack=1, tokens=2**16),
}


def analysed(case: Case, domains: int = DOMAINS, targets: int = DOMAINS) -> tuple[Plan, dict[str, float]]:
    """Return our plan, and the bytes that XLA plans for a step and for an evaluation of it."""
    sizes = {name: getattr(case, name) for name in ("layers", "width", "heads", "vocab", "context", "dtype")}
    train = TrainConfig(model=ModelConfig(**sizes), batch=case.batch)
    mesh = make_mesh(data=case.data, model=case.model)
    wishes = Wishes(device_memory=case.memory, remat=case.remat, stack=case.stack)
    plan = make_plan(train, mesh, case.members, targets * WINDOWS, wishes=wishes, tokens=2.0 * case.tokens)
    # A CPU is told to unroll the blocks; accelerators scan them, and a GPU sums in one order.
    passes = dataclasses.replace(plan.layout.passes, unrolled=False, deterministic=case.deterministic)
    layout = dataclasses.replace(plan.layout, passes=passes)
    slots = -(-case.members // mesh.shape["member"]) * mesh.shape["member"]
    programs = make_programs(train, read_resident, slots, domains, layout)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    own = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("member"))

    def shape(dtype: Any, *axes: int, sharding: Any = whole) -> Any:
        return jax.ShapeDtypeStruct(axes, dtype, sharding=sharding)

    samplers = Sampler(
        key=shape(jnp.uint32, slots, 2, sharding=own),
        last=shape(jnp.int32, slots, domains - 1, sharding=own),
        starts=shape(jnp.uint32, slots, domains, sharding=own),
    )
    number = shape(jnp.int32)
    shared = ((shape(jnp.uint16, case.tokens), shape(jnp.int32, domains)), number, number)
    validation = Validation(
        windows=shape(jnp.int32, targets, WINDOWS, case.context + 1), used=shape(jnp.bool_, targets, WINDOWS)
    )
    step = programs.train.lower(programs.like, samplers, None, shared).compile()
    evaluation = programs.meter.lower(programs.like, (validation, number)).compile()
    return dataclasses.replace(plan, layout=layout), {
        "step": _bytes(step),
        "evaluation": _bytes(evaluation) + 2 * case.tokens,
    }


def _bytes(compiled: jax.stages.Compiled) -> float:
    """Return the bytes of a device: arguments, results that take no argument's place, and what is in between."""
    found = compiled.memory_analysis()
    assert found is not None
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return kept + found.temp_size_in_bytes


def main() -> None:
    """Compile, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), nargs="*", default=list(CASES))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "swarm_memory.json", help="JSON file")
    given = parser.parse_args()
    # Cases that are not run again are kept.
    rows, found = [], json.loads(given.out.read_text())["cases"] if given.out.exists() else {}
    for name in given.case:
        plan, xla = analysed(CASES[name])
        layout = plan.layout
        cut = f"{layout.stack or 'all'}/{layout.microbatch}/{layout.eval_batch}{' remat' * layout.passes.remat}"
        sizes = [xla["step"], plan.step, xla["evaluation"], plan.evaluation]
        numbers = [*(f"{size / GIB:.2f}" for size in sizes), *(f"{sizes[i + 1] / sizes[i]:.2f}" for i in (0, 2))]
        rows.append([name, cut + " sharded" * layout.passes.sharded, *numbers])
        kinds = ("stack", "microbatch", "eval_batch", "passes")
        settings = {kind: getattr(layout, kind) for kind in kinds} | {"mesh": dict(layout.mesh.shape)}
        found[name] = {"case": dataclasses.asdict(CASES[name]), "layout": settings, "parts": plan.parts}
        planned = {"step": plan.step, "evaluation": plan.evaluation}
        found[name] |= {"planned": planned, "xla": xla}
        _report.write(given.out, {"benchmark": "swarm_memory", "devices": DEVICES, "cases": found})
    print(
        _report.table(
            [
                "GiB a device",
                "stack/microbatch/eval",
                "step",
                "planned",
                "eval",
                "planned",
                "step: planned / XLA",
                "eval",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
