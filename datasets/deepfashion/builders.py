"""DeepFashion's benchmarks and FLD: official folders -> records.

Z. Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval
with Rich Annotations, CVPR 2016; Z. Liu et al., Fashion Landmark Detection in
the Wild, ECCV 2016. coarse.py describes the layout of Category and Attribute
and of FLD, which a folder of one's own may have as well, fine.py that of the
files in Anno_fine, and shops.py those of the two retrieval benchmarks. These
modules find all mistakes that a folder can have.
"""

import types
from collections.abc import Iterator

from fld_jax import landmark_sets, schema
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.deepfashion import coarse, fine, layout, shops
from fld_jax.errors import Findings, InputError

READERS = {'coarse': coarse, 'fine': fine}


class Deepfashion(FolderBuilder):
  """Fashion landmarks in the layout of DeepFashion.

  Args (keywords), beside those of `FolderBuilder`:
    labels: 'coarse', the lists list_*.txt, or 'fine', the files in Anno_fine.
  """

  labels = 'coarse'

  def _reader(self) -> types.ModuleType:
    """The module that reads these labels."""
    if self.labels not in READERS:
      raise InputError(
        f"config.dataset.labels is '{self.labels}', valid values are "
        f'{", ".join(READERS)}.',
        'config',
      )
    return READERS[self.labels]

  def digest(self) -> str:
    """See `FolderBuilder`."""
    return self._reader().content_digest(self.manual_dir)

  def landmarks(self) -> schema.LandmarkSet:
    """See `FolderBuilder`."""
    return landmark_sets.FASHION_8

  def attribute_names(self) -> list[str]:
    """See `FolderBuilder`."""
    return layout.attribute_names(
      self._reader().annotation_paths(self.manual_dir)
    )

  def attribute_groups(self) -> list[str]:
    """See `FolderBuilder`."""
    return layout.attribute_groups(
      self._reader().annotation_paths(self.manual_dir)
    )

  def read(self, findings: Findings) -> Iterator[Row]:
    """See `FolderBuilder`."""
    return self._reader().read_annotations(self.manual_dir, findings)


class Fld(Deepfashion):
  """The Fashion Landmark Detection benchmark."""


class InShop(FolderBuilder):
  """In-shop Clothes Retrieval: train, query and gallery."""

  def digest(self) -> str:
    """See `FolderBuilder`."""
    return shops.content_digest(self.manual_dir, self.name)

  def landmarks(self) -> schema.LandmarkSet:
    """See `FolderBuilder`."""
    return landmark_sets.FASHION_8

  def attribute_names(self) -> list[str]:
    """See `FolderBuilder`."""
    return shops.read_attribute_names(self.manual_dir, self.name)

  def read(self, findings: Findings) -> Iterator[Row]:
    """See `FolderBuilder`."""
    return shops.read(self.manual_dir, self.name, findings)


class ConsumerToShop(InShop):
  """Consumer-to-shop Clothes Retrieval: train, queries val, test, gallery."""
