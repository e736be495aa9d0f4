"""Principal components: features of any length brought to a common one."""

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Float


@dataclasses.dataclass(frozen=True, eq=False)
class Projection:
  """An affine map of features to their principal components.

  Attributes:
    mean: (D,) float32 mean of the features that it was fitted to.
    components: (D, d) float32 orthonormal directions, that of the largest
      variance first.
  """

  mean: np.ndarray
  components: np.ndarray

  @classmethod
  def fit(cls, x: Float[np.ndarray, 'n D'], dimension: int) -> 'Projection':
    """Fits the projection that keeps most of the variance.

    Args:
      x: (n, D) features, at least 1.
      dimension: d, the wished number of components; there are no more than
        n and D.
    """
    x = np.asarray(x, np.float64)
    mean = x.mean(axis=0)
    x = x - mean
    n, full = x.shape
    dimension = min(dimension, n, full)
    # The smaller of the two matrices has the same eigenvalues.
    gram = x.T @ x if full <= n else x @ x.T
    last = len(gram) - 1
    _, vectors = scipy.linalg.eigh(
      gram, subset_by_index=[last - dimension + 1, last]
    )
    vectors = vectors[:, ::-1]
    if full > n:
      vectors, _ = np.linalg.qr(x.T @ vectors)
    return cls(mean.astype(np.float32), vectors.astype(np.float32))

  def __call__(self, x: Float[np.ndarray, 'n D']) -> Float[np.ndarray, 'n d']:
    """Projects features.

    Args:
      x: (n, D) features.
    """
    return (np.asarray(x, np.float32) - self.mean) @ self.components
