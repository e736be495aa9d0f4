"""The builder that all data sets of files share: a folder -> records."""

import functools
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from fld_jax import schema
from fld_jax.datasets.common import rows, shards
from fld_jax.datasets.common.dataset_info import DatasetInfo
from fld_jax.datasets.common.rows import Row
from fld_jax.errors import Findings, InputError
from fld_jax.files.atomic import locked

SUMMARY = 'summary.json'
logger = logging.getLogger('fld_jax')


class FolderBuilder(tfds.core.ShardBasedBuilder):
  """Writes rows as records of `schema.features`; needs no TensorFlow.

  Records are written to `data_dir/NAME/DIGEST/`, so a corrected folder is
  prepared anew, and several folders can share one `data_dir`. Files that a
  killed preparation has finished are kept beside it (see `shards`), so that the
  next preparation goes on from there.

  The metadata of the builder's info hold `attribute_names`, `landmark_names`
  and, once prepared, `content`: a digest of all records, which copies of a
  folder share.
  Subclasses implement `digest`, `landmarks`, `read` and, if their records have
  attributes, `attribute_names`.

  Args (keywords):
    manual_dir: The folder of the original files.
    data_dir: The folder for prepared data; None for TFDS's default.
    **arguments: Further settings of a subclass, which become attributes.

  Raises:
    InputError: The folder or a list is missing; `download_and_prepare` raises
      it for every other mistake and leaves nothing prepared.
  """

  # Keeps TFDS 4.9.10 from looking for checksums of downloads, of which there
  # are none, by way of importlib_resources, which it does not install.
  code_path = None
  VERSION = tfds.core.Version('1.2.0')

  def __init__(
    self,
    *,
    manual_dir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    **arguments: Any,
  ):
    self.manual_dir = os.path.abspath(os.path.expanduser(manual_dir))
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
    """A name that changes when the files do.

    Raises:
      InputError: The folder or a list is missing.
    """
    raise NotImplementedError

  def landmarks(self) -> schema.LandmarkSet:
    """The landmark set of all records.

    Raises:
      InputError: The files declare landmarks, and not validly.
    """
    raise NotImplementedError

  def attribute_names(self) -> list[str]:
    """Names of the attributes of all records."""
    return []

  def attribute_groups(self) -> list[str]:
    """Names of the groups that the attributes are of, one for each."""
    return ['all'] * len(self.attribute_names())

  def read(self, findings: Findings) -> Iterator[Row]:
    """Reads and checks the whole folder.

    Args:
      findings: The collector of mistakes, and of the numbers of rows that are
        left out.

    Yields:
      The rows, each with its split.

    Raises:
      InputError: The first mistake, if `findings` is strict; otherwise only
        what leaves nothing to read.
    """
    raise NotImplementedError

  def about(self) -> list[str]:
    """What users should know of how the files are taken, a line each."""
    return []

  def result_ids(self, ids: list[str]) -> list[tuple[int, int]] | None:
    """The ids by which COCO's results name records.

    Args:
      ids: The ids of the records.

    Returns:
      (image id, category id) of each record; None if the data set has none.
    """
    del ids
    return None

  def partial(self) -> Path:
    """The folder of what a killed preparation has finished.

    It does not lie in the folder that TFDS removes if anything goes wrong. Its
    rows hold the places of the images, in the form of this version of the
    records and of `rows.FORMAT`.
    """
    place = hashlib.sha256(os.fsencode(self.manual_dir)).hexdigest()[:8]
    name = f'{self._digest}-{self.VERSION}-{place}.{rows.FORMAT}.partial'
    return Path(self._data_dir_root, self.name, name)

  def summary(self) -> dict:
    """The summary of the prepared data, see `shards.write`."""
    return json.loads((Path(self.data_dir) / SUMMARY).read_text())

  def __reduce__(self) -> tuple:
    # Data sources pickle their builder. In a worker they read what is
    # prepared, whatever has become of the folder since.
    if self.is_prepared():
      return tfds.builder_from_directory, (self.data_dir,)
    return functools.partial(type(self), **self._arguments), ()

  def _info(self) -> tfds.core.DatasetInfo:
    """Describes the records; TFDS calls it once."""
    landmarks = self.landmarks()
    return DatasetInfo(
      builder=self,
      description=(type(self).__doc__ or '').partition('\n')[0],
      features=schema.features(landmarks.num_landmarks),
      metadata=tfds.core.MetadataDict(
        attribute_names=self.attribute_names(),
        landmark_names=list(landmarks.names),
      ),
    )

  def download_and_prepare(self, **kwargs: Any) -> None:
    """Prepares the data, one process at a time; the others find them prepared.

    Args:
      **kwargs: The arguments of TFDS's method of this name.

    Raises:
      InputError: A file of the folder has a mistake, or the folder changed
        meanwhile.
    """
    if self.is_prepared():
      return
    place = Path(self._data_dir_root, self.name)
    place.mkdir(parents=True, exist_ok=True)
    busy = lambda: logger.info(
      'Another process prepares data in %s: waiting.', place
    )
    with locked(place, busy):
      super().download_and_prepare(**kwargs)
    if not self.info.splits:  # another process has prepared it meanwhile
      self.info.read_from_directory(self.data_dir)

  def _download_and_prepare(
    self, dl_manager: Any, download_config: Any = None
  ) -> None:
    """Writes the files; TFDS renames their folder when all is done."""
    del dl_manager, download_config
    partial = self.partial()
    try:
      lengths, summary = shards.write(
        self.read, self.info.features, partial, self.data_path, self.name
      )
      if self._digest != self.digest():
        raise InputError(
          f'{self.manual_dir}: the folder changed after this '
          f'{type(self).__name__} builder was made; make a new one'
        )
    except InputError:  # of a mended folder the digest is another
      shutil.rmtree(partial, ignore_errors=True)
      raise
    (self.data_path / SUMMARY).write_text(json.dumps(summary))
    infos, content = [], hashlib.sha256()
    for split, shard_lengths in lengths.items():
      template = self._get_filename_template(split_name=split)
      paths = template.sharded_filepaths(num_shards=len(shard_lengths))
      content.update(split.encode())
      for path in paths:
        with open(path, 'rb') as file:
          content.update(hashlib.file_digest(file, 'sha256').digest())
      infos.append(
        tfds.core.SplitInfo(
          name=split,
          shard_lengths=shard_lengths,
          num_bytes=sum(os.path.getsize(path) for path in paths),
          filename_template=template,
        )
      )
    self.info.set_splits(tfds.core.splits.SplitDict(infos))
    self.info.metadata['content'] = content.hexdigest()[:16]

  def _log_download_bytes(self) -> None:
    pass  # of a download of unknown size, which there is none of

  def _log_download_done(self) -> None:
    pass

  def _shard_iterators_per_split(self, dl_manager: Any) -> None:
    raise NotImplementedError  # `shards` writes them, in parallel
