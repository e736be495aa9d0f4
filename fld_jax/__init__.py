"""Fashion-landmark detection in JAX: the DFA cascade and its baselines.

  import fld_jax

  detector = fld_jax.load('runs/quickstart')
  (item,) = detector(['photo.jpg'])
  item.draw('photo.jpg').save('overlay.jpg')

`load` and `Predictor` are imported when they are first asked for (PEP 562), so
that `import fld_jax` and `--help` need not wait for JAX.
"""

import typing

if typing.TYPE_CHECKING:  # for editors and type checkers alone
  from fld_jax.inference.predictor import Predictor, load

__all__ = ['Predictor', '__version__', 'load']


def __getattr__(name: str):
  if name == '__version__':
    import importlib.metadata

    value = importlib.metadata.version('fld_jax')
  elif name in __all__:
    from fld_jax.inference import predictor

    value = getattr(predictor, name)
  else:
    raise AttributeError(f"module 'fld_jax' has no attribute '{name}'")
  globals()[name] = value  # asked for once
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
