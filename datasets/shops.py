"""DeepFashion's In-shop and Consumer-to-shop benchmarks: folders -> records.

Z. Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval
with Rich Annotations, CVPR 2016. shop_folder.py has the layouts and all that a
user can get wrong.
"""

from fld_jax import landmark_sets
from fld_jax.datasets import shop_folder
from fld_jax.datasets.folder_builder import FolderBuilder


class InShop(FolderBuilder):
  """In-shop Clothes Retrieval: train, query and gallery."""

  def digest(self):
    """See `FolderBuilder`."""
    return shop_folder.content_digest(self.manual_dir, self.name)

  def landmarks(self):
    """See `FolderBuilder`."""
    return landmark_sets.FASHION_8

  def attribute_names(self):
    """See `FolderBuilder`."""
    return shop_folder.read_attribute_names(self.manual_dir, self.name)

  def read(self, findings):
    """See `FolderBuilder`."""
    return shop_folder.read(self.manual_dir, self.name, findings)


class ConsumerToShop(InShop):
  """Consumer-to-shop Clothes Retrieval: train, queries val, test, gallery."""
