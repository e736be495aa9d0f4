"""COCO-style keypoint files, of anybody's own landmarks -> records.

coco_folder.py has the layout and all that a user can get wrong.
"""

import functools
import io
import logging
import os

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fld_jax import schema
from fld_jax.datasets import coco_folder
from fld_jax.errors import InputError

logger = logging.getLogger('fld_jax')


class CocoKeypoints(tfds.core.GeneratorBasedBuilder):
  """Writes COCO-style keypoint annotations as records of `schema.features`.

  A record is an annotated object; its id is the file's name and the
  annotation's id. Crowds and objects without a labelled landmark are left out.

  Args (keywords):
    manual_dir: the folder.
    annotations: path of the JSON files below it, with {split}.
    images: folder of the images below it, perhaps with {split}.
    data_dir: where TFDS keeps prepared data (its default if None).

  Raises:
    InputError: an annotation file is missing or no JSON; `download_and_prepare`
      raises it for every other mistake and leaves nothing prepared.
  """

  # Keeps TFDS 4.9.10 from looking for checksums of downloads, of which there
  # are none, by way of importlib_resources, which it does not install.
  code_path = None
  VERSION = tfds.core.Version('1.0.0')

  def __init__(
    self,
    *,
    manual_dir,
    annotations='annotations/{split}.json',
    images='images',
    data_dir=None,
  ):
    self._folder = os.fspath(manual_dir), annotations, images
    self._digest = coco_folder.content_digest(*self._folder)
    super().__init__(
      data_dir=data_dir,
      config=tfds.core.BuilderConfig(name=self._digest),
      file_format='array_record',  # TFDS's default needs TensorFlow
    )
    self._arguments = {
      'manual_dir': self._folder[0],
      'annotations': annotations,
      'images': images,
      'data_dir': data_dir,
    }

  def __reduce__(self):
    # Data sources pickle their builder. In a worker they read what is
    # prepared, whatever has become of the folder since.
    if self.is_prepared():
      return tfds.builder_from_directory, (self.data_dir,)
    return functools.partial(CocoKeypoints, **self._arguments), ()

  def _info(self):
    landmarks = coco_folder.read_landmark_set(*self._folder[:2])
    return tfds.core.DatasetInfo(
      builder=self,
      description='Landmarks in the layout of COCO.',
      features=schema.features(landmarks.num_landmarks),
      metadata=tfds.core.MetadataDict(
        attribute_names=[], landmark_names=list(landmarks.names)
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    files = coco_folder.annotation_files(*self._folder[:2])
    # All splits are checked before one is written.
    rows = {split: coco_folder.read(*self._folder, split) for split in files}
    for split, (kept, dropped) in rows.items():
      left = ', '.join(f'{n} ({why})' for why, n in dropped.items()) or 'none'
      logger.info('%s: %d objects; left out: %s', split, len(kept), left)
    return {
      split: self._generate_examples(kept) for split, (kept, _) in rows.items()
    }

  def _generate_examples(self, rows):
    for row in rows:
      yield (
        row.id,
        {
          'id': row.id,
          'image': _read_image(row),
          'box': row.box,
          'landmarks': row.landmarks,
          'visibility': row.visibility,
          'clothes_type': 0,
          'variation': 0,
          'item_id': '',
          'attributes': np.zeros(0, np.int8),
        },
      )


def _read_image(row: coco_folder.Row) -> bytes:
  """The bytes of the image file, once decoded to see that they are whole."""
  try:
    with open(row.path, 'rb') as file:
      encoded = file.read()
    with Image.open(io.BytesIO(encoded)) as image:
      image.load()
  except (OSError, ValueError, Image.DecompressionBombError) as problem:
    raise InputError(
      f'{row.place}, file_name: the image file {row.path} is damaged '
      f'({problem})'
    ) from None
  return encoded
