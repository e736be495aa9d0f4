"""FashionAI key points: the competition's folders -> records.

folder.py has the layout and all that a user can get wrong.
"""

from fld_jax import landmark_sets
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.fashion_ai import folder


class FashionAi(FolderBuilder):
  """FashionAI key points, all folders as one."""

  def digest(self):
    """See `FolderBuilder`."""
    return folder.digest(self.manual_dir)

  def landmarks(self):
    """See `FolderBuilder`."""
    return landmark_sets.FASHION_AI_24

  def read(self, findings):
    """See `FolderBuilder`."""
    return folder.read(self.manual_dir, findings)
