"""DeepFashion, Category and Attribute, and FLD: official folders -> records.

Z. Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval
with Rich Annotations, CVPR 2016; Z. Liu et al., Fashion Landmark Detection in
the Wild, ECCV 2016. deepfashion_folder.py has the layout, which a
folder of one's own may have as well, and all that a user can get wrong.
"""

from fld_jax import schema
from fld_jax.datasets import deepfashion_folder
from fld_jax.datasets.folder_builder import FolderBuilder


class Deepfashion(FolderBuilder):
  """Fashion landmarks in the layout of DeepFashion."""

  def digest(self):
    """See `FolderBuilder`."""
    return deepfashion_folder.content_digest(self.manual_dir)

  def landmarks(self):
    """See `FolderBuilder`."""
    return schema.FASHION_8

  def attribute_names(self):
    """See `FolderBuilder`."""
    return deepfashion_folder.read_attribute_names(self.manual_dir)

  def read(self, findings):
    """See `FolderBuilder`."""
    return deepfashion_folder.read_annotations(self.manual_dir, findings)


class Fld(Deepfashion):
  """The Fashion Landmark Detection benchmark."""
