"""LSP, LSP extended and Image Parse: official folders -> records.

folder.py describes the layouts and finds all mistakes that a folder can have.
"""

from collections.abc import Iterator

from fld_jax import landmark_sets, schema
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.common.rows import Row
from fld_jax.datasets.pose import folder
from fld_jax.errors import Findings


class _Pose(FolderBuilder):
  """Joints of a person.

  Args (keywords), beside those of `FolderBuilder`:
    centric: Whose left and right the records have, 'observer' or 'person'.
  """

  def digest(self) -> str:
    """See `FolderBuilder`."""
    return folder.digest(self.manual_dir, self.name, self.centric)

  def landmarks(self) -> schema.LandmarkSet:
    """See `FolderBuilder`."""
    return landmark_sets.LSP_14

  def read(self, findings: Findings) -> Iterator[Row]:
    """See `FolderBuilder`."""
    return folder.read(self.manual_dir, self.name, self.centric, findings)


class Lsp(_Pose):
  """Leeds Sports Pose."""


class Lspet(_Pose):
  """Leeds Sports Pose Extended."""


class Parse(_Pose):
  """Image Parse."""
