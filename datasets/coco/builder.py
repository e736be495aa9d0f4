"""COCO-style keypoint files, of anybody's own landmarks -> records.

A record is an annotated object; its id is the file's name and the annotation's
id. folder.py has the layout and all that a user can get wrong.
"""

from fld_jax.datasets.coco import detections as coco_detections
from fld_jax.datasets.coco import folder
from fld_jax.datasets.common.folder_builder import FolderBuilder


class CocoKeypoints(FolderBuilder):
  """Landmarks in the layout of COCO.

  Args (keywords), beside those of `FolderBuilder`:
    annotations: path of the JSON files below the folder, with {split}.
    images: folder of the images below it, perhaps with {split}.
    detections: path of JSON files with boxes of a detector, with {split}, or
      ''. A split that has one gets a record a detected box, without landmarks.
  """

  def digest(self):
    """See `FolderBuilder`."""
    digest = folder.content_digest(
      self.manual_dir, self.annotations, self.images
    )
    files = coco_detections.detection_files(self.manual_dir, self.detections)
    return coco_detections.add_to_digest(digest, files)

  def landmarks(self):
    """See `FolderBuilder`."""
    return folder.read_landmark_set(self.manual_dir, self.annotations)

  def result_ids(self, ids):
    """See `FolderBuilder`; None if the files' are no numbers."""
    detections = coco_detections.detection_files(
      self.manual_dir, self.detections
    )
    return folder.result_ids(self.manual_dir, self.annotations, ids, detections)

  def read(self, findings):
    """See `FolderBuilder`."""
    places = self.manual_dir, self.annotations, self.images
    detections = coco_detections.detection_files(
      self.manual_dir, self.detections
    )
    for split in folder.annotation_files(*places[:2]):
      if split in detections:
        yield from coco_detections.read(
          *places, split, detections[split], findings
        )
      else:
        yield from folder.read(*places, split, findings)
