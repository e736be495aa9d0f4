"""XLA's options in tests."""

from fld_jax.config import XLA_CPU_FLAGS  # imports no JAX


def xla_flags(devices: int) -> str:
  """Those that `main` sets, for virtual devices and quick compilation.

  A tiny network's program runs for milliseconds and is compiled for seconds,
  two thirds of them in passes that make it faster. Without these it is that of
  the same operations, rounded otherwise where LLVM would have joined a product
  and a sum: so no test may compare these numbers with those of a user's run.

  Args:
    devices: The number of virtual devices.
  """
  return (
    f'--xla_force_host_platform_device_count={devices}'
    f' --xla_backend_optimization_level=0 {XLA_CPU_FLAGS}'
  )
