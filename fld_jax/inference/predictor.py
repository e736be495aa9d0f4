"""A trained run, ready to find landmarks on anyone's images."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from ml_collections import ConfigDict

from fld_jax import input_pipeline, schema
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import Setup, resolve
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.evaluation import evaluate
from fld_jax.inference import photos
from fld_jax.inference.landmarks import Landmarks
from fld_jax.metrics.predictions import confidences
from fld_jax.runtime.parallel import Parallel

CHUNK_ITEMS = 4096  # items whose outputs are held at a time


class Predictor:
  """Finds landmarks with a trained run.

    predictor = Predictor.load('W')
    (found,) = predictor(['photo.jpg'])
    dict(zip(found.names, found.positions))

  Attributes:
    config: the run's.
    landmark_set: its landmarks.
  """

  def __init__(
    self, config: ConfigDict, setup: Setup, stages: list[stage_lib.Stage]
  ):
    self.config = config
    self.landmark_set = setup.landmarks
    self._pipeline = dataclasses.replace(
      setup.pipeline,
      num_workers=0,  # failures are told by threads alone
      on_corrupt='skip',
    )
    self._parallel = Parallel(config.parallel)
    self._cascade = Cascade(stages, setup, self._parallel)

  @classmethod
  def load(cls, workdir, config=None) -> 'Predictor':
    """Loads a finished run.

    Args:
      workdir: its folder.
      config: the run's by default; or one with other settings of inference,
        `flip_test` for example.

    Raises:
      InputError: if the folder holds no finished run.
    """
    workdir = pathlib.Path(workdir).expanduser()
    config = config or trained.get_config(str(workdir))
    setup = resolve(config)
    stages, _ = store.load_cascade(config, setup, workdir)
    return cls(config, setup, stages)

  def __call__(
    self, images: Sequence, boxes: Sequence | None = None
  ) -> list[Landmarks]:
    """The landmarks of one item on each image.

    Args:
      images: paths, PIL.Images or (H, W, 3) uint8 RGB arrays.
      boxes: of each image (x1, y1, x2, y2) of the item, or None: it fills the
        image.

    Returns:
      As many.

    Raises:
      InputError: for an image or box that cannot be used.
    """
    if isinstance(images, str | np.ndarray):
      raise InputError('Give a list of images, [image] for one.')
    boxes = [None] * len(images) if boxes is None else boxes
    if len(boxes) != len(images):
      raise InputError(f'{len(boxes)} boxes for {len(images)} images.')
    if not images:
      return []
    items = photos.Items(images, boxes, self.landmark_set.num_landmarks)
    found = dict(self.predict(items))
    if items.failures:
      raise InputError(items.failures[min(items.failures)])
    return [found[i] for i in range(len(images))]

  def predict(self, items: photos.Items) -> Iterator[tuple[int, Landmarks]]:
    """Yields (place, landmarks) of the items, in order, a piece at a time.

    Args:
      items: those that fail are left out, and are in its `failures`.
    """
    for start in range(0, len(items), CHUNK_ITEMS):
      part = items.part(start, min(start + CHUNK_ITEMS, len(items)))
      for i, found in self._predict_piece(part):
        yield start + i, found
      items.failures |= {start + i: why for i, why in part.failures.items()}

  def _predict_piece(self, items) -> Iterator[tuple[int, Landmarks]]:
    # No more than the items need: a batch is filled up with copies.
    enough = 2 ** math.ceil(math.log2(len(items)))
    devices = self._parallel.num_devices
    enough = -(-enough // devices) * devices
    pipeline = dataclasses.replace(
      self._pipeline, batch_size=min(self._pipeline.batch_size, enough)
    )
    try:
      rows = self._cascade.predict(input_pipeline.eval_batches(items, pipeline))
    except InputError:
      if len(items.failures) < len(items):
        raise
      return  # not one of them could be used
    predictions = evaluate.to_predictions(rows, self._cascade.setup)
    routes = self._cascade.routes(rows)
    final = list(predictions.estimates)[-1]
    slots = self.landmark_set.slots
    confidence = confidences(predictions, final)
    probs = predictions.visibility_probs.get(final)
    every = np.arange(self.landmark_set.num_landmarks)
    for i, place in enumerate(predictions.image_ids.tolist()):
      kind = int(predictions.clothes_type[i])
      present = np.isin(every, slots.get(kind, every))
      yield (
        place,
        Landmarks(
          names=self.landmark_set.names,
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
        ),
      )
