"""Devices: where arrays live and how a per-device function runs on all of them.

The program is written once as functions that see one device's share of the
batch and reduce over the axis named AXIS (`jax.lax.psum`). `Parallel` runs
them, by `jit` of `shard_map` over a 1-D mesh or by `jax.pmap`. The devices may
belong to several processes: then every process makes the same calls.
"""

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fld_jax.errors import InputError

AXIS = 'batch'
# XLA's CPU compiler drops optimization barriers before it fuses operations, so
# that they keep nothing apart; without this pass they hold. `jax.pmap` has no
# place for options.
CPU_OPTIONS = {'xla_disable_hlo_passes': 'cse_barrier_expander'}


class Parallel:
  """Runs per-device functions on `devices`.

  Attributes:
    mode: 'shard_map' or 'pmap'.
    num_devices: how many devices the batch is split over.
    num_processes: to which they belong.
  """

  def __init__(self, mode: str = 'shard_map', devices=None):
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
    """Raises InputError if the devices can't share the batch evenly."""
    if batch_size % self.num_devices:
      raise InputError(
        f'config.batch_size is {batch_size}, which {self.num_devices} devices '
        'cannot share evenly: choose a multiple.'
      )

  def local(self) -> 'Parallel':
    """This process's own devices: for what needs no other process."""
    if self.num_processes == 1:
      return self
    return Parallel(self.mode, [self._devices[i] for i in self._own])

  def replicate(self, tree):
    """Puts a whole copy of every array on each device.

    Args:
      tree: host arrays, the same in every process.
    """
    if self.mode == 'pmap':
      # One leading entry a device: placed like this, pmap compiles once.
      copies = lambda x: np.broadcast_to(x, (len(self._own), *np.shape(x)))
      return jax.tree.map(lambda x: self._from_share(copies(x)), tree)
    whole = lambda x: jax.make_array_from_callback(
      x.shape, self._whole, lambda index: x[index]
    )
    return jax.tree.map(lambda x: whole(np.asarray(x)), tree)

  def shard(self, tree):
    """Splits the leading axis of every array over the devices.

    Args:
      tree: host arrays; this process's share of the whole, for its devices.
    """
    if self.mode == 'pmap':
      stack = lambda x: np.reshape(x, (len(self._own), -1, *np.shape(x)[1:]))
      tree = jax.tree.map(stack, tree)
    return jax.tree.map(self._from_share, tree)

  def _from_share(self, x):
    return jax.make_array_from_process_local_data(self._split, np.asarray(x))

  def unreplicate(self, tree):
    """One copy of what `replicate`, or a replicated output, holds."""
    if self.mode == 'pmap':
      return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)
    return tree

  def to_host(self, tree):
    """NumPy arrays of sharded outputs, the shares joined in order.

    All devices must be this process's.
    """
    tree = jax.device_get(tree)
    if self.mode == 'pmap':
      tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
    return tree

  def compile(self, fn, sharded_in, sharded_out, donate=()):
    """Makes a function of one device's share run on all devices.

    Args:
      fn: function of positional pytrees; it may reduce over AXIS.
      sharded_in: for each argument True if it is split over the devices
        (`shard`), False if every device holds the whole (`replicate`).
      sharded_out: the same for each entry of the tuple that `fn` returns, or
        one bool if it returns a single tree.
      donate: positions of arguments whose memory the call may reuse.

    Returns:
      A compiled function of placed arrays, to be called outside `jit` and
      `grad`.
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
