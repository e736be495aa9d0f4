"""Devices: where arrays live and how a per-device function runs on all of them.

The program is written once as functions that see one device's share of the
batch and reduce over the axis named AXIS (`jax.lax.psum`). `Parallel` runs
them, by `jit` of `shard_map` over a 1-D mesh or by `jax.pmap`.
"""

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fld_jax.errors import InputError

AXIS = 'batch'


class Parallel:
  """Runs per-device functions on `devices`.

  Attributes:
    mode: 'shard_map' or 'pmap'.
    num_devices: how many devices the batch is split over.
  """

  def __init__(self, mode: str = 'shard_map', devices=None):
    if mode not in ('shard_map', 'pmap'):
      raise InputError(
        f"config.parallel is '{mode}', valid values are 'shard_map' and 'pmap'."
      )
    self.mode = mode
    self._devices = list(devices or jax.devices())
    self.num_devices = len(self._devices)
    mesh = jax.sharding.Mesh(np.array(self._devices), (AXIS,))
    self._mesh = mesh
    self._split = NamedSharding(mesh, PartitionSpec(AXIS))
    # pmap's arrays carry one leading entry a device; placed like this from the
    # start, its program is compiled once instead of twice.
    self._whole = (
      self._split if mode == 'pmap' else NamedSharding(mesh, PartitionSpec())
    )

  def check_batch_size(self, batch_size: int) -> None:
    """Raises InputError if the devices can't share the batch evenly."""
    if batch_size % self.num_devices:
      raise InputError(
        f'config.batch_size is {batch_size}, which {self.num_devices} devices '
        'cannot share evenly: choose a multiple.'
      )

  def replicate(self, tree):
    """Puts a whole copy of every array on each device."""
    if self.mode == 'pmap':
      tree = jax.tree.map(
        lambda x: np.broadcast_to(
          np.asarray(x), (self.num_devices, *np.shape(x))
        ),
        tree,
      )
    return jax.device_put(tree, self._whole)

  def shard(self, tree):
    """Splits the leading axis of every array over the devices."""
    if self.mode == 'pmap':
      tree = jax.tree.map(
        lambda x: np.reshape(x, (self.num_devices, -1, *np.shape(x)[1:])), tree
      )
    return jax.device_put(tree, self._split)

  def unreplicate(self, tree):
    """One copy of what `replicate`, or a replicated output, holds."""
    if self.mode == 'pmap':
      return jax.tree.map(lambda x: x[0], tree)
    return tree

  def gather(self, tree):
    """NumPy arrays of sharded outputs, the shares joined in order."""
    tree = jax.device_get(tree)
    if self.mode == 'pmap':
      tree = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)
    return tree

  def wrap(self, fn, sharded_in, sharded_out, donate=()):
    """Makes a function of one device's share run on all devices.

    Args:
      fn: function of positional pytrees; it may reduce over AXIS.
      sharded_in: for each argument True if it is split over the devices
        (`shard`), False if every device holds the whole (`replicate`).
      sharded_out: the same for each entry of the tuple that `fn` returns, or
        one bool if it returns a single tree.
      donate: positions of arguments whose memory the call may reuse.

    Returns:
      A compiled function of placed arrays.
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
    return jax.jit(mapped, donate_argnums=donate)
