from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

from bimixjax._base import compilation


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    compilation.choices.cache_clear()
    yield
    compilation.choices.cache_clear()


def test_a_program_is_compiled_with_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    compiled = jax.jit
    # Known to every release.
    monkeypatch.setattr(compilation, "_CHOICES", {"xla_cpu_enable_fast_math": False})
    monkeypatch.setattr(compilation.jax, "jit", lambda f, **o: given.append(o["compiler_options"]) or compiled(f, **o))
    double = compilation.program(static=("times",))(lambda x, times: times * x)
    assert float(double(jnp.ones(()), times=2)) == 2
    assert given[-1] == {"xla_cpu_enable_fast_math": False}


def test_a_choice_that_xla_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_CHOICES", {"xla_cpu_no_such_choice": False})
    assert compilation.choices() == {}


def test_other_platforms_have_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation.jax, "default_backend", lambda: "tpu")
    assert compilation.choices() == {}
