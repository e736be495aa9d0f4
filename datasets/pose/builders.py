"""LSP, LSP extended and Image Parse: official folders -> records.

folder.py has the layouts and all that a user can get wrong.
"""

from fld_jax import landmark_sets
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.pose import folder


class _Pose(FolderBuilder):
  """Joints of a person.

  Args (keywords), beside those of `FolderBuilder`:
    centric: whose left and right, 'observer' or 'person'.
  """

  def digest(self):
    """See `FolderBuilder`."""
    return folder.digest(self.manual_dir, self.name, self.centric)

  def landmarks(self):
    """See `FolderBuilder`."""
    return landmark_sets.LSP_14

  def read(self, findings):
    """See `FolderBuilder`."""
    return folder.read(self.manual_dir, self.name, self.centric, findings)


class Lsp(_Pose):
  """Leeds Sports Pose."""


class Lspet(_Pose):
  """Leeds Sports Pose Extended."""


class Parse(_Pose):
  """Image Parse."""
