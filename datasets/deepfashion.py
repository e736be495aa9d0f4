"""DeepFashion, Category and Attribute: the official folder -> records.

Z. Liu et al., DeepFashion: Powering Robust Clothes Recognition and Retrieval
with Rich Annotations, CVPR 2016. deepfashion_folder.py has the layout, which a
folder of one's own may have as well, and all that a user can get wrong.
"""

import functools
import os

import tensorflow_datasets as tfds

from fld_jax import schema
from fld_jax.datasets.deepfashion_folder import (
  content_digest,
  read_annotations,
  read_attribute_names,
  read_image,
)
from fld_jax.datasets.deepfashion_lists import SPLITS
from fld_jax.errors import InputError


class Deepfashion(tfds.core.GeneratorBasedBuilder):
  """Writes a folder in DeepFashion's layout as records of `schema.features`.

  Needs no TensorFlow: writes ArrayRecord. What is prepared lies below
  `data_dir/deepfashion/<content_digest>/`, so a corrected folder is prepared
  anew, and several folders share one `data_dir`. The info's metadata holds
  `attribute_names`.

  Args (keywords):
    manual_dir: the folder.
    data_dir: where TFDS keeps prepared data (its default if None).
    verify_images: decode every image once while preparing (about 1.5 ms
      each) and refuse what is damaged.

  Raises:
    InputError: the folder or a list is missing; `download_and_prepare` raises
      it for every other mistake and leaves nothing prepared.
  """

  # Keeps TFDS 4.9.10 from looking for checksums of downloads, of which there
  # are none, by way of importlib_resources, which it does not install.
  code_path = None
  VERSION = tfds.core.Version('1.0.0')

  def __init__(self, *, manual_dir, data_dir=None, verify_images=True):
    self._manual_dir = os.fspath(manual_dir)
    self._verify_images = verify_images
    self._config_name = content_digest(manual_dir)
    if not verify_images:
      self._config_name += '_unverified'
    super().__init__(
      data_dir=data_dir,
      config=tfds.core.BuilderConfig(name=self._config_name),
      file_format='array_record',  # TFDS's default needs TensorFlow
    )
    self._arguments = {
      'manual_dir': self._manual_dir,
      'data_dir': data_dir,
      'verify_images': verify_images,
    }

  def __reduce__(self):
    # Data sources pickle their builder. In a worker they read what is
    # prepared, whatever has become of the folder since.
    if self.is_prepared():
      return tfds.builder_from_directory, (self.data_dir,)
    return functools.partial(Deepfashion, **self._arguments), ()

  def _info(self):
    names = read_attribute_names(self._manual_dir)
    return tfds.core.DatasetInfo(
      builder=self,
      description='Fashion landmarks in the layout of DeepFashion.',
      features=schema.features(),
      metadata=tfds.core.MetadataDict(attribute_names=names),
    )

  def _split_generators(self, dl_manager):
    rows = read_annotations(self._manual_dir)
    if not self._config_name.startswith(content_digest(self._manual_dir)):
      raise InputError(
        f'{self._manual_dir}: the folder changed after this Deepfashion '
        'builder was made; make a new one'
      )
    by_split = {split: [] for split in SPLITS}
    for row in rows:
      by_split[row.split].append(row)
    return {
      split: self._generate_examples(rows)
      for split, rows in by_split.items()
      if rows
    }

  def _generate_examples(self, rows):
    for row in rows:
      yield (
        row.image,
        {
          'id': row.image,
          'image': read_image(row, self._verify_images),
          'box': row.box,
          'landmarks': row.landmarks,
          'visibility': row.visibility,
          'clothes_type': row.clothes_type,
          'variation': row.variation,
          'item_id': '',
          'attributes': row.attributes,
        },
      )
