"""Finds landmarks on photos with a trained run."""

import dataclasses
import functools
import hashlib
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_flags import config_path
from PIL import Image
from scipy.special import expit

from fld_jax import input_pipeline, schema
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import Setup, resolve
from fld_jax.config import check_field, set_xla_cpu_flags
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.evaluation import attributes as attribute_sets
from fld_jax.evaluation import evaluate
from fld_jax.evaluation.calibration import MAIN, Calibration, Identity
from fld_jax.inference import photos
from fld_jax.inference.landmarks import Landmarks
from fld_jax.metrics.attributes import AttributeSet
from fld_jax.metrics.predictions import confidences
from fld_jax.runtime.manifest import read_manifest
from fld_jax.runtime.parallel import Parallel

# Items whose outputs are held in memory at a time: what is known of them is
# handed on when all of them are through. A whole number of batches.
PIECE_ITEMS = 192
# Examples of a batch on a CPU, which gains nothing by more, and shows what it
# found the later.
CPU_BATCH = 32


class Predictor:
  """Finds landmarks on photos with a trained run; see `load`.

  Attributes:
    config: The config that the run was trained with, and `load`'s fields.
    landmark_set: The landmarks that it finds, a schema.LandmarkSet.
    calibration: How far they may be off; None if the run does not tell it of
      these networks and settings.
  """

  def __init__(
    self,
    config: ConfigDict,
    setup: Setup,
    stages: list[stage_lib.Stage],
    calibration: Calibration | None = None,
    attributes: AttributeSet | None = None,
  ):
    """Keeps the networks of a cascade.

    Args:
      config: The run's config.
      setup: The objects that the config resolves to.
      stages: The trained stages, in their order.
      calibration: How far landmarks may be off; None if it is not known.
      attributes: The attributes that the last stage predicts; None if none.
    """
    self.config, self.calibration = config, calibration
    self._attributes = attributes
    self.landmark_set = setup.landmarks
    self._pipeline = dataclasses.replace(
      setup.pipeline,
      # Only threads can report to `Items.failures`; processes have a copy.
      num_workers=0,
      on_corrupt='skip',
    )
    self._parallel = Parallel(config.parallel)
    self._cascade = Cascade(stage_lib.needed(stages), setup, self._parallel)

  @classmethod
  def load(
    cls,
    workdir: str | os.PathLike,
    config: ConfigDict | None = None,
    **fields: Any,
  ) -> 'Predictor':
    """Loads a finished run; see the function `load`.

    Args:
      workdir: The run's folder.
      config: A config with the run's networks; by default the run's own.
      **fields: Values of other fields of the config, by their paths.

    Returns:
      The predictor.

    Raises:
      InputError: The folder holds no finished run, or a field does not exist,
        has a value of another type, or changes the networks.
    """
    set_xla_cpu_flags()
    workdir = pathlib.Path(workdir).expanduser()
    config = config or trained.get_config(str(workdir))
    config = config.copy_and_resolve_references()
    for path, value in fields.items():
      check_field(config, path)
      try:
        config_path.set_value(path, config, value)
      except TypeError as error:
        raise InputError(f'config.{path} is {value!r}: {error}.') from error
    setup = resolve(config, read_manifest(workdir).get('landmarks'))
    stages, _ = store.load_cascade(config, setup, workdir)
    names, identity = setup.landmarks.names, Identity.of(config, stages)
    calibration = Calibration.read(workdir, names, identity)
    count = config.model.get('num_attributes')
    return cls(
      config,
      setup,
      stages,
      calibration,
      attribute_sets.read(workdir, count),
    )

  def __call__(
    self, images: Sequence[photos.Photo], boxes: Sequence | None = None
  ) -> list[Landmarks]:
    """Finds the landmarks of one item on each image.

    Args:
      images: Paths, PIL images or (H, W, 3) uint8 RGB arrays. A file or PIL
        image is turned upright as its EXIF data say.
      boxes: One box an image, x1, y1, x2, y2 in pixels of the image; a box of
        None stands for the whole image, and so do boxes of None for all.

    Returns:
      One `Landmarks` an image, in the order of the images.

    Raises:
      InputError: An image or box cannot be used.
    """
    if isinstance(images, (str, bytes, os.PathLike, np.ndarray, Image.Image)):
      raise InputError('Give a list of images, [image] for one.')
    try:
      images = list(images)
      boxes = [None] * len(images) if boxes is None else list(boxes)
    except TypeError as error:
      raise InputError(
        f'Give a list of images, and one of boxes: {error}.'
      ) from error
    if len(boxes) != len(images):
      raise InputError(f'{len(boxes)} boxes for {len(images)} images.')
    items = photos.Items(images, boxes, self.landmark_set.num_landmarks)
    found = dict(self.predict(items))
    if items.failures:
      raise InputError(items.failures[min(items.failures)])
    return [found[i] for i in range(len(images))]

  @functools.cached_property
  def identity(self) -> str:
    """A digest that changes with the networks and with what is done by them."""
    digest = hashlib.sha256()
    config = self.config.to_json_best_effort(sort_keys=True)
    digest.update(config.encode())
    digest.update(repr(self.landmark_set).encode())
    if self.calibration:
      digest.update(repr(self.calibration.to_json()).encode())
    for stage in self._cascade.stages:
      arrays = (stage.networks, stage.clusters, stage.epsilon)
      for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        array = np.asarray(leaf)
        name = f'{stage.name} {path} {array.dtype} {array.shape}'
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()[:32]

  def predict(
    self,
    items: photos.Items,
    progress: Callable[[int], object] = lambda count: None,
  ) -> Iterator[tuple[int, Landmarks]]:
    """Finds the landmarks of any number of items, PIECE_ITEMS at a time.

    Args:
      items: The items; those that cannot be used are left out, and recorded in
        `items.failures`.
      progress: A function that is called, batch by batch, with the number of
        items that the first networks have seen.

    Yields:
      (index, landmarks) of each item that can be used, in order.
    """
    if not len(items):
      return
    size = self._batch_size(len(items))
    pipeline = dataclasses.replace(self._pipeline, batch_size=size)
    left = len(items)
    piece = []
    for batch in input_pipeline.eval_batches(items, pipeline):
      piece.append(batch)
      left -= size
      if left > 0 and len(piece) * size < PIECE_ITEMS:
        continue
      yield from self._predict_piece(piece, items, progress)
      piece = []

  def _category(self, code: int) -> str:
    """The name of a clothes type, of the only one if the code is 0."""
    types = self.landmark_set.types
    if code == 0 and len(types) == 1:
      return next(iter(types.values()))
    return types.get(code, '')

  def _batch_size(self, count: int) -> int:
    """The size of all batches of a number of items: one compiled program.

    A batch is filled up with copies, so it is no larger than needed; powers of
    two keep the number of programs of several calls small.
    """
    most = self._pipeline.batch_size
    if jax.default_backend() == 'cpu':
      most = min(most, CPU_BATCH)
    devices = self._parallel.num_devices
    size = min(most, 2 ** math.ceil(math.log2(count)))
    return -(-size // devices) * devices

  def _predict_piece(
    self,
    batches: list[dict],
    items: photos.Items,
    progress: Callable[[int], object],
  ) -> Iterator[tuple[int, Landmarks]]:
    if not any(batch['mask'].any() for batch in batches):
      progress(sum(map(_num_items, batches)))
      return  # none of the items can be used
    rows = self._cascade.predict(_told(batches, progress))
    predictions = evaluate.to_predictions(rows, self._cascade.setup)
    routes = self._cascade.routes(rows)
    final = list(predictions.estimates)[-1]
    slots = self.landmark_set.slots
    confidence = confidences(predictions, final)
    errors = {}
    if self.calibration:
      errors = {
        f'error_{level}': self.calibration.of_level(
          level, confidence, predictions.boxes
        )
        for level in MAIN
      }
    attributes = None
    if self._attributes:
      attributes = expit(rows['stages'][final]['attributes']).tolist()
    probs = predictions.visibility_probs.get(final)
    every = np.arange(self.landmark_set.num_landmarks)
    for i, index in enumerate(predictions.image_ids.tolist()):
      kind = int(predictions.clothes_type[i])
      present = np.isin(every, slots.get(kind, every))
      found = Landmarks(
        landmark_set=self.landmark_set,
        box=predictions.boxes[i].astype(np.float64),
        positions=predictions.estimates[final][i],
        present=present,
        visibility=None
        if probs is None
        else tuple(
          schema.VISIBILITY_NAMES[code] for code in probs[i].argmax(axis=-1)
        ),
        visibility_probs=None if probs is None else probs[i],
        confidence=confidence[i],
        score=float(confidence[i][present].mean()),
        route=routes[i],
        stages={
          name: points[i] for name, points in predictions.estimates.items()
        },
        category=self._category(kind),
        image_size=tuple(predictions.image_sizes[i].astype(int).tolist()),
        attributes=attributes
        and dict(zip(self._attributes.names, attributes[i], strict=True)),
        **{name: values[i] for name, values in errors.items()},
      )
      if found.is_finite():
        yield index, found
      else:
        items.failures[index] = (
          f'{items.name(index)}: the networks give no numbers for this item '
          '(NaN or infinite)'
        )


def _num_items(batch: dict) -> int:
  """The number of items of a batch, without the copies that fill it up."""
  return int(np.sum((batch['mask'] > 0) | (batch['corrupt'] > 0)))


def _told(batches: list[dict], progress: Callable[[int], object]):
  """The batches, each told of when the next one is asked for."""
  for batch in batches:
    yield batch
    progress(_num_items(batch))


def load(workdir: str | os.PathLike, **fields: Any) -> Predictor:
  """Loads a finished run, to find landmarks on photos with it.

    import fld_jax

    detector = fld_jax.load('runs/quickstart')
    (item,) = detector(['photo.jpg'], boxes=[(62, 62, 165, 300)])
    item.names        # N names
    item.positions    # (N, 2) x, y in pixels of the photo, from its top-left
    item.visibility   # N of 'visible', 'occluded', 'truncated'
    item.draw('photo.jpg').save('overlay.jpg')

  Where neither JAX is in use yet nor XLA_FLAGS is set, it sets XLA_FLAGS to the
  fastest flags for CPUs, as the command line does.

  Args:
    workdir: The run's folder, the --workdir of its training.
    **fields: Values of other fields of the run's config, such as
      `flip_test=True`, which also predicts from the mirror image, or
      `**{'routing.mode': 'average'}`.

  Returns:
    A `Predictor`: a function of a list of images (paths, PIL images or
    (H, W, 3) uint8 RGB arrays) and, if given, a box for each (x1, y1, x2, y2 in
    pixels of the image), which returns one `Landmarks` an image.

  Raises:
    InputError: The folder holds no finished run, or a field does not exist, has
      a value of another type, or changes the networks.
  """
  return Predictor.load(workdir, **fields)
