"""Devices: where arrays are, and how a per-device function runs on all of them.

The program is written once, as functions that see one device's share of the
batch and reduce over the axis named AXIS (`jax.lax.psum`). `Parallel` runs
them, by `jit` of `shard_map` over a 1-D mesh or by `jax.pmap`. The devices may
belong to several processes: then every process makes the same calls.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fld_jax.errors import InputError

AXIS = 'batch'  # the name of the mesh's axis, for collectives
# XLA's CPU compiler drops optimization barriers before it fuses operations, so
# that they keep nothing apart; without this pass they hold. `jax.pmap` has no
# place for options.
CPU_OPTIONS = {'xla_disable_hlo_passes': 'cse_barrier_expander'}


class Parallel:
  """Runs per-device functions on a list of devices.

  Attributes:
    mode: How functions run on all devices, 'shard_map' or 'pmap'.
    num_devices: Number of devices that the batch is split over.
    num_processes: Number of processes that the devices belong to.
  """

  def __init__(
    self,
    mode: str = 'shard_map',
    devices: Sequence[jax.Device] | None = None,
  ):
    """Chooses the devices.

    Args:
      mode: How functions run on all devices, 'shard_map' or 'pmap'.
      devices: The devices, those of one process next to each other; None for
        all devices of all processes.

    Raises:
      InputError: If `mode` is neither of the two.
    """
    if mode not in ('shard_map', 'pmap'):
      raise InputError(
        f"config.parallel is '{mode}', valid values are 'shard_map' and 'pmap'."
      )
    self.mode = mode
    self._devices = list(devices or jax.devices())
    self.num_devices = len(self._devices)
    owners = [device.process_index for device in self._devices]
    self.num_processes = len(set(owners))
    # Devices of a process are neighbours, so that its share of a batch is one
    # piece.
    self._own = [i for i, p in enumerate(owners) if p == jax.process_index()]
    mesh = jax.sharding.Mesh(np.array(self._devices), (AXIS,))
    self._mesh = mesh
    self._split = NamedSharding(mesh, PartitionSpec(AXIS))
    self._whole = NamedSharding(mesh, PartitionSpec())

  def check_batch_size(self, batch_size: int) -> None:
    """Refuses a batch that the devices cannot share evenly.

    Args:
      batch_size: The number of examples in a global batch.

    Raises:
      InputError: If it is no multiple of `num_devices`.
    """
    if batch_size % self.num_devices:
      raise InputError(
        f'config.batch_size is {batch_size}, which {self.num_devices} devices '
        'cannot share evenly: choose a multiple.'
      )

  def local(self) -> 'Parallel':
    """Returns this process's own devices, for work without other processes."""
    if self.num_processes == 1:
      return self
    return Parallel(self.mode, [self._devices[i] for i in self._own])

  def replicate(self, tree: Any) -> Any:
    """Puts a whole copy of every array on each device.

    Args:
      tree: A pytree of host arrays, the same in every process.

    Returns:
      The tree with arrays on the devices, for a function of `compile`.
    """
    if self.mode == 'pmap':
      # One leading entry a device: placed like this, pmap compiles once.
      copies = lambda x: np.broadcast_to(x, (len(self._own), *np.shape(x)))
      return jax.tree.map(lambda x: self._from_share(copies(x)), tree)
    whole = lambda x: jax.make_array_from_callback(
      x.shape, self._whole, lambda index: x[index]
    )
    return jax.tree.map(lambda x: whole(np.asarray(x)), tree)

  def shard(self, tree: Any) -> Any:
    """Splits the leading axis of every array over the devices.

    Args:
      tree: A pytree of host arrays: this process's share of the whole, whose
        leading axis is a multiple of the number of this process's devices.

    Returns:
      The tree with arrays on the devices, for a function of `compile`.
    """
    if self.mode == 'pmap':
      stack = lambda x: np.reshape(x, (len(self._own), -1, *np.shape(x)[1:]))
      tree = jax.tree.map(stack, tree)
    return jax.tree.map(self._from_share, tree)

  def _from_share(self, x: np.ndarray) -> jax.Array:
    """Makes a split array of this process's share of it."""
    return jax.make_array_from_process_local_data(self._split, np.asarray(x))

  def unreplicate(self, tree: Any) -> Any:
    """Returns one copy of what every device holds.

    Args:
      tree: What `replicate` returned, or a replicated output of a function of
        `compile`.

    Returns:
      The tree with arrays of their own shapes, still on the devices.
    """
    if self.mode == 'pmap':
      return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)
    return tree

  def to_host(self, tree: Any) -> Any:
    """Copies split outputs to the host, the devices' shares joined in order.

    All devices must be this process's.

    Args:
      tree: A split output of a function of `compile`.

    Returns:
      The tree with NumPy arrays, the leading axis that of the global batch.
    """
    tree = jax.device_get(tree)
    if self.mode == 'pmap':
      tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
    return tree

  def compile(
    self,
    fn: Callable,
    sharded_in: Sequence[bool],
    sharded_out: bool | tuple[bool, ...],
    donate: Sequence[int] = (),
  ) -> Callable:
    """Makes a function of one device's share run on all devices.

    Args:
      fn: A function of positional pytrees; it may reduce over AXIS.
      sharded_in: One bool for each argument: True if it is split over the
        devices (`shard`), False if every device holds the whole (`replicate`).
      sharded_out: One bool for each entry of the tuple that `fn` returns, with
        the same meaning; a single bool if it returns one tree.
      donate: Positions of the arguments whose memory the call may reuse.

    Returns:
      A compiled function of arrays on the devices, to be called outside `jit`
      and `grad`.
    """
    if self.mode == 'pmap':
      return jax.pmap(
        fn, axis_name=AXIS, donate_argnums=donate, devices=self._devices
      )
    spec = lambda sharded: PartitionSpec(AXIS) if sharded else PartitionSpec()
    # check_vma=False: with the check on, the gradient of replicated parameters
    # arrives already summed, and the step's own psum would count it again.
    mapped = jax.shard_map(
      fn,
      mesh=self._mesh,
      in_specs=tuple(map(spec, sharded_in)),
      out_specs=jax.tree.map(spec, sharded_out),
      check_vma=False,
    )
    on_cpu = self._devices[0].platform == 'cpu'
    return jax.jit(
      mapped,
      donate_argnums=donate,
      compiler_options=CPU_OPTIONS if on_cpu else None,
    )
