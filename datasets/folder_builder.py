"""Rows of a folder -> prepared records: what all datasets of files share."""

import dataclasses
import functools
import os
from collections.abc import Iterable

import tensorflow_datasets as tfds

from fld_jax import schema
from fld_jax.datasets.rows import SPLITS, Row, read_image
from fld_jax.errors import InputError


class FolderBuilder(tfds.core.GeneratorBasedBuilder):
  """Writes rows as records of `schema.features`; needs no TensorFlow.

  What is prepared lies below `data_dir/NAME/DIGEST/`, so a corrected folder is
  prepared anew, and several folders share one `data_dir`.

  The metadata of its info hold `attribute_names` and `landmark_names`.
  Subclasses say what `digest`, `landmarks`, `attribute_names` and `read` are.

  Args (keywords):
    manual_dir: the folder.
    data_dir: where TFDS keeps prepared data (its default if None).
    **arguments: more of the subclass; they become attributes.

  Raises:
    InputError: the folder or a list is missing; `download_and_prepare` raises
      it for every other mistake and leaves nothing prepared.
  """

  # Keeps TFDS 4.9.10 from looking for checksums of downloads, of which there
  # are none, by way of importlib_resources, which it does not install.
  code_path = None
  VERSION = tfds.core.Version('1.0.0')

  def __init__(self, *, manual_dir, data_dir=None, **arguments):
    self.manual_dir = os.fspath(manual_dir)
    for name, value in arguments.items():
      setattr(self, name, value)
    self._arguments = {
      'manual_dir': self.manual_dir,
      'data_dir': data_dir,
      **arguments,
    }
    self._digest = self.digest()
    super().__init__(
      data_dir=data_dir,
      config=tfds.core.BuilderConfig(name=self._digest),
      file_format='array_record',  # TFDS's default needs TensorFlow
    )

  def digest(self) -> str:
    """A name that changes when the files do."""
    raise NotImplementedError

  def landmarks(self) -> schema.LandmarkSet:
    """The landmark set of all records."""
    raise NotImplementedError

  def attribute_names(self) -> list[str]:
    """Names of the attributes of all records."""
    return []

  def read(self) -> Iterable[Row]:
    """All rows, checked."""
    raise NotImplementedError

  def __reduce__(self):
    # Data sources pickle their builder. In a worker they read what is
    # prepared, whatever has become of the folder since.
    if self.is_prepared():
      return tfds.builder_from_directory, (self.data_dir,)
    return functools.partial(type(self), **self._arguments), ()

  def _info(self):
    landmarks = self.landmarks()
    return tfds.core.DatasetInfo(
      builder=self,
      description=(type(self).__doc__ or '').partition('\n')[0],
      features=schema.features(landmarks.num_landmarks),
      metadata=tfds.core.MetadataDict(
        attribute_names=self.attribute_names(),
        landmark_names=list(landmarks.names),
      ),
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    by_split = {split: [] for split in SPLITS}
    for row in self.read():  # all are checked before one is written
      by_split[row.split].append(row)
    if self._digest != self.digest():
      raise InputError(
        f'{self.manual_dir}: the folder changed after this '
        f'{type(self).__name__} builder was made; make a new one'
      )
    return {
      split: self._generate_examples(rows)
      for split, rows in by_split.items()
      if rows
    }

  def _generate_examples(self, rows):
    for row in rows:
      record = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(Row)
        if field.name not in ('path', 'place', 'split')
      }
      yield row.id, {**record, 'image': read_image(row)}
