"""FashionAI key points: the competition's folders -> records.

folder.py describes the layout and finds all mistakes that a folder can have.
"""

from collections.abc import Iterator

from fld_jax import landmark_sets, schema
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.fashion_ai import folder
from fld_jax.errors import Findings


class FashionAi(FolderBuilder):
  """FashionAI key points, all folders as one."""

  def digest(self) -> str:
    """See `FolderBuilder`."""
    return folder.digest(self.manual_dir)

  def landmarks(self) -> schema.LandmarkSet:
    """See `FolderBuilder`."""
    return landmark_sets.FASHION_AI_24

  def read(self, findings: Findings) -> Iterator[Row]:
    """See `FolderBuilder`."""
    return folder.read(self.manual_dir, findings)
