"""COCO-style keypoint files, of anybody's own landmarks -> records.

A record is an annotated object; its id is the file's name and the annotation's
id. coco_folder.py has the layout and all that a user can get wrong.
"""

from fld_jax.datasets import coco_folder
from fld_jax.datasets.folder_builder import FolderBuilder


class CocoKeypoints(FolderBuilder):
  """Landmarks in the layout of COCO.

  Args (keywords), beside those of `FolderBuilder`:
    annotations: path of the JSON files below the folder, with {split}.
    images: folder of the images below it, perhaps with {split}.
  """

  def digest(self):
    """See `FolderBuilder`."""
    return coco_folder.content_digest(
      self.manual_dir, self.annotations, self.images
    )

  def landmarks(self):
    """See `FolderBuilder`."""
    return coco_folder.read_landmark_set(self.manual_dir, self.annotations)

  def read(self, findings):
    """See `FolderBuilder`."""
    for split in coco_folder.annotation_files(
      self.manual_dir, self.annotations
    ):
      yield from coco_folder.read(
        self.manual_dir, self.annotations, self.images, split, findings
      )
