"""The types of IDPR's relations (Chen and Yuille, NIPS 2014, section 3.1).

The displacements from a part to a neighbour in the training images are
clustered, and a cluster's mean is a type. They are in sides of the crop, since
crops are cut by boxes, where the paper divides by the scale of the person.
"""

import pathlib

import numpy as np
from jaxtyping import Bool, Float, Int

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.files import npz
from fld_jax.landmark_sets import Tree
from fld_jax.ops.kmeans import kmeans
from fld_jax.ops.pictorial import edges, relations
from fld_jax.runtime import processes
from fld_jax.runtime.parallel import Parallel

RESTARTS = 5  # of which the tightest clusters are taken; the paper has 80
CHUNK = 8192  # number of vectors that are in memory at a time


def make_relations(
  landmarks: Float[np.ndarray, 'n N 2'],
  visibility: Int[np.ndarray, 'n N'],
  places: Int[np.ndarray, ' n'],
  tree: Tree,
  num_types: int,
  *,
  seed: int,
  parallel: Parallel,
) -> dict[str, np.ndarray]:
  """Clusters the displacements between neighbours in the training images.

  An edge whose ends no image has both gets displacements of 0 with a spread as
  wide as the crop: it then says next to nothing.

  Args:
    landmarks: (n, N, 2) true landmarks of this process's samples in normalised
      coordinates; n may be 0.
    visibility: (n, N) true visibility codes of `schema`.
    places: (n,) the places of this process's samples among all, ascending.
    tree: The tree, with E edges.
    num_types: K, the number of types of a relation.
    seed: The seed of k-means++, 0 to 2^32 - 1.
    parallel: The devices, of all processes.

  Returns:
    `displacements` (2 E, K, 2) float32, the means of the types in sides of the
    crop, in the order of `ops.pictorial`; `spreads` (2 E,) float32, the root
    mean square of what is left on an axis.

  Raises:
    InputError: An edge has fewer different displacements than types.
  """
  parts, known = place_parts(landmarks, visibility, tree)
  means, spreads = [], []
  for child, parent in edges(tree.parents):
    both = known[:, child] & known[:, parent]
    way = parts[:, parent] - parts[:, child]
    count = sum(processes.all_gather(int(both.sum())))
    if not count:
      means.append(np.zeros((num_types, 2), np.float32))
      spreads.append(1.0)
      continue

    def chunks(way: np.ndarray = way, both: np.ndarray = both):
      for i in range(0, len(way), CHUNK):
        mask = np.broadcast_to(
          both[i : i + CHUNK, None], way[i : i + CHUNK].shape
        )
        yield np.where(mask, way[i : i + CHUNK], 0.0), mask

    try:
      found = min(
        (
          kmeans(
            chunks,
            num_types,
            places=places,
            seed=seed + restart,
            parallel=parallel,
          )
          for restart in range(RESTARTS)
        ),
        key=lambda clusters: clusters.inertia,
      )
    except InputError as error:
      raise InputError(
        f'config.model.num_types is {num_types}, and of the edge '
        f'{tree.names[child]}-{tree.names[parent]}: {error}'
      ) from None
    means.append(found.centres)
    spreads.append(np.sqrt(found.inertia / (2 * count)))
  # Of the way back the same clusters are the best, with the sign turned.
  both_ways = [x for mean in means for x in (mean, -mean)]
  return {
    'displacements': np.stack(both_ways).astype(np.float32),
    'spreads': np.repeat(spreads, 2).astype(np.float32),
  }


def place_parts(
  landmarks: Float[np.ndarray, 'n N 2'],
  visibility: Int[np.ndarray, 'n N'],
  tree: Tree,
) -> tuple[Float[np.ndarray, 'n P 2'], Bool[np.ndarray, 'n P']]:
  """Computes where the parts of a tree are, of NumPy's arrays or JAX's.

  Args:
    landmarks: (n, N, 2) landmarks in normalised coordinates.
    visibility: (n, N) visibility codes of `schema`.
    tree: The tree.

  Returns:
    (n, P, 2) normalised coordinates of the parts, and (n, P), for which of them
    that is known: all landmarks that they depend on have a position, and they
    lie on the crop.
  """
  mixture = tree.mixture
  has = schema.has_position(visibility)
  parts = mixture @ (landmarks * has[..., None])
  missing = (1.0 - has) @ (mixture.T > 0)
  return parts, (missing == 0) & (abs(parts) <= 0.5).all(axis=-1)


def check_relations(
  path: pathlib.Path,
  found: dict[str, np.ndarray],
  tree: Tree,
  num_types: int,
) -> None:
  """Refuses relations of a file that do not fit the network.

  Args:
    path: The path of the file, for messages.
    found: What `make_relations` returned, as the file has it.
    tree: The tree, with E edges.
    num_types: K, the number of types of a relation.

  Raises:
    InputError: An array is missing, or of another shape, or has a number that
      is not valid.
  """
  count, name = len(relations(tree.parents)), 'displacements'
  npz.numbers(path, name, found.get(name), (count, num_types, 2))
  npz.numbers(path, 'spreads', found.get('spreads'), (count,), low=0)
