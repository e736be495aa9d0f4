"""COCO-style keypoint files, of anybody's own landmarks -> records.

A record is an annotated object; its id is the file's name and the annotation's
id. layout.py says where files may lie, folder.py has all that a user can get
wrong.
"""

from collections.abc import Iterator

import tensorflow_datasets as tfds

from fld_jax.datasets.coco import detections as coco_detections
from fld_jax.datasets.coco import folder, layout
from fld_jax.datasets.common.folder_builder import FolderBuilder
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError


class CocoKeypoints(FolderBuilder):
  """Landmarks in the form of COCO.

  Args (keywords), beside those of `FolderBuilder`:
    annotations: Path of the JSON files below the folder, with {split}; or of
      one file.
    images: Folder of the images below it, perhaps with {split}.
    detections: Path of JSON files with boxes of a detector, with {split}, or
      ''. A split that has one gets a record a detected box, without landmarks.
  """

  # Categories became types, and photos are turned as their EXIF data say.
  VERSION = tfds.core.Version('1.3.0')

  def digest(self):
    """See `FolderBuilder`."""
    digest = folder.content_digest(
      self.manual_dir, self.annotations, self.images
    )
    return coco_detections.add_to_digest(digest, self._detections())

  def landmarks(self):
    """See `FolderBuilder`."""
    return folder.read_landmark_set(self.manual_dir, self.annotations)

  def about(self):
    """See `FolderBuilder`."""
    found = layout.sources(self.manual_dir, self.annotations, self.images)
    return layout.describe(found)

  def result_ids(self, ids: list[str]) -> list[tuple[int, int]] | None:
    """See `FolderBuilder`; None if the files' are no numbers."""
    return folder.result_ids(
      self.manual_dir, self.annotations, ids, self._detections()
    )

  def read(self, findings: Findings) -> Iterator[Row]:
    """See `FolderBuilder`."""
    splits: dict[str, str] = {}  # of images
    shared = set()
    for row in self._rows(findings):
      if splits.setdefault(row.path, row.split) != row.split:
        shared.add(row.path)
      yield row
    if shared:
      findings.notes['images that two splits list'] += len(shared)

  def _rows(self, findings: Findings) -> Iterator[Row]:
    landmarks = self.landmarks()
    detections = self._detections()
    for source in layout.sources(
      self.manual_dir, self.annotations, self.images
    ):
      reader = folder.Reader(source, landmarks)
      if source.split in detections:
        path = detections.pop(source.split)
        yield from coco_detections.read(reader, path, findings)
      else:
        yield from reader.rows(findings)
    for split, path in detections.items():
      findings.mistake(
        InputError(
          f'{path}: there is no file of annotations of {split}, which would '
          'name the images: config.dataset.annotations must lead to one'
        )
      )

  def _detections(self):
    return coco_detections.detection_files(self.manual_dir, self.detections)
