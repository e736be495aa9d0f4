"""Finds landmarks on photos with a trained run.

A program is compiled for each size of batches, and takes seconds to compile: so
there are few sizes, SHAPES, whatever the number of photos of a call, and the
programs are kept on disk for the next process (`runtime.user_cache`).
"""

import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import time
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
from fld_jax.inference import onnx_runtime, photos
from fld_jax.inference.landmarks import Landmarks
from fld_jax.metrics.attributes import AttributeSet
from fld_jax.metrics.predictions import confidences
from fld_jax.runtime import user_cache
from fld_jax.runtime.manifest import read_manifest
from fld_jax.runtime.parallel import Parallel

# The sizes of batches. A CPU gains little by more than the second, and shows
# what it found the later.
SHAPES = (1, 8, 64)
CPU_SHAPES = SHAPES[:2]
# A batch that is less full than this is left to smaller ones. What is padding
# costs a CPU as much as photos; on an accelerator a batch costs about the same
# whatever is in it.
CPU_LEAST_FULL = 0.5
# What is known of items is handed on when so many are through, or after so
# long: until then the images of each branch wait for a full batch.
PIECE_ITEMS = 192
PIECE_SECONDS = 2.0
RUNTIMES = ('jax', 'onnx')


class Predictor:
  """Finds landmarks on photos with a trained run; see `load`.

  Attributes:
    config: The config that the run was trained with, and `load`'s fields.
    landmark_set: The landmarks that it finds, a schema.LandmarkSet.
    calibration: How far they may be off; None if the run does not tell it of
      these networks and settings.
    runtime: What computes the networks, 'jax' or 'onnx'.
    shapes: The sizes of batches, in increasing order.
  """

  def __init__(
    self,
    config: ConfigDict,
    setup: Setup,
    stages: list[stage_lib.Stage],
    calibration: Calibration | None = None,
    runtime: str = 'jax',
    attributes: AttributeSet | None = None,
  ):
    """Keeps the networks of a cascade.

    Args:
      config: The run's config.
      setup: The objects that the config resolves to.
      stages: The trained stages, in their order.
      calibration: How far landmarks may be off; None if it is not known.
      runtime: What computes the networks, one of RUNTIMES.
      attributes: The attributes that the last stage predicts; None if none.

    Raises:
      InputError: The runtime is unknown, or its packages are not installed.
    """
    if runtime not in RUNTIMES:
      raise InputError(
        f"runtime is '{runtime}', valid values are {', '.join(RUNTIMES)}."
      )
    self.config, self.calibration = config, calibration
    self._attributes = attributes
    self.runtime, self.landmark_set = runtime, setup.landmarks
    self._pipeline = dataclasses.replace(
      setup.pipeline,
      # Only threads can report to `Items.failures`; processes have a copy.
      num_workers=0,
      on_corrupt='skip',
    )
    self._example = input_pipeline.Example(self._pipeline, augment=False)
    stages = stage_lib.needed(stages)
    if runtime == 'onnx':
      self._cascade = onnx_runtime.OnnxCascade(config, stages, setup)
      devices, on_cpu = 1, True
    else:
      parallel = Parallel(config.parallel)
      self._cascade = Cascade(stages, setup, parallel)
      devices = parallel.num_devices
      on_cpu = jax.default_backend() == 'cpu'
    shapes = CPU_SHAPES if on_cpu else SHAPES
    shapes = {-(-size // devices) * devices for size in shapes}
    self.shapes = tuple(sorted(shapes))
    self._least_full = CPU_LEAST_FULL if on_cpu else 0.0

  @classmethod
  def load(
    cls,
    workdir: str | os.PathLike,
    config: ConfigDict | None = None,
    *,
    runtime: str = 'jax',
    warm: bool = False,
    **fields: Any,
  ) -> 'Predictor':
    """Loads a finished run; see the function `load`.

    Args:
      workdir: The run's folder.
      config: A config with the run's networks; by default the run's own.
      runtime: What computes the networks, one of RUNTIMES.
      warm: Whether to compile all programs now.
      **fields: Values of other fields of the config, by their paths.

    Returns:
      The predictor.

    Raises:
      InputError: The folder holds no finished run, or a field does not exist,
        has a value of another type, or changes the networks; or the packages of
        the runtime are not installed.
    """
    set_xla_cpu_flags()
    user_cache.keep_programs()
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
    attributes = attribute_sets.read(workdir, count)
    predictor = cls(config, setup, stages, calibration, runtime, attributes)
    if warm:
      predictor.warm()
    return predictor

  def warm(self) -> None:
    """Compiles the programs of all `shapes`, or loads them from the cache.

    Without it each is compiled when a call first needs it.
    """
    for size in self.shapes:
      self._cascade.compile_for(size)

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
    if self.runtime != 'jax':
      digest.update(self.runtime.encode())
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

  def prepare(
    self, image: np.ndarray, box: Sequence[float] | None, name: str = 'image'
  ) -> dict[str, Any]:
    """Cuts an item out of its photo, for `predict_prepared`.

    Args:
      image: (H, W, 3) uint8 RGB photo.
      box: The item's box, see `__call__`.
      name: What messages call the photo.

    Returns:
      An example of `input_pipeline`, which is small, whatever the photo's size.

    Raises:
      InputError: The photo or the box cannot be used.
    """
    items = photos.Items(
      [image], [box], self.landmark_set.num_landmarks, names=[name]
    )
    example = self._example(items[0], None)
    if items.failures:
      raise InputError(items.failures[0])
    return example

  def predict_prepared(
    self, examples: Sequence[dict[str, Any]]
  ) -> list[Landmarks | None]:
    """Finds the landmarks of prepared items.

    Args:
      examples: What `prepare` returned of each item.

    Returns:
      The landmarks of each item, None where the networks give no numbers (NaN
      or infinite).
    """
    examples = [
      {**example, 'index': np.int32(i)} for i, example in enumerate(examples)
    ]
    found = {}
    for batches in self._pieces(iter(examples), len(examples)):
      found |= dict(self._find(batches))
    return [found[i] for i in range(len(examples))]

  def predict(
    self,
    items: photos.Items,
    progress: Callable[[int], object] = lambda count: None,
  ) -> Iterator[tuple[int, Landmarks]]:
    """Finds the landmarks of any number of items, in pieces.

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
    examples = input_pipeline.examples(items, self._pipeline, self.shapes[-1])
    for batches in self._pieces(examples, len(items)):
      for index, found in self._find(_told(batches, progress)):
        if found is not None:
          yield index, found
        else:
          items.failures[index] = (
            f'{items.name(index)}: the networks give no numbers for this item '
            '(NaN or infinite)'
          )

  def _category(self, code: int) -> str:
    """The name of a clothes type, of the only one if the code is 0."""
    types = self.landmark_set.types
    if code == 0 and len(types) == 1:
      return next(iter(types.values()))
    return types.get(code, '')

  def _sizes(self, count: int) -> Iterator[int]:
    """The sizes of the batches of a number of items, in decreasing order."""
    while count > 0:
      # The smallest that holds the rest, unless it would be nearly empty.
      size = next((s for s in self.shapes if s >= count), self.shapes[-1])
      if count < size * self._least_full:
        size = max((s for s in self.shapes if s <= count), default=size)
      yield size
      count -= size

  def _pieces(
    self, examples: Iterator[dict[str, Any]], count: int
  ) -> Iterator[Iterator[dict]]:
    """Batches by pieces, in each of which they have one size.

    Args:
      examples: The examples of all items.
      count: Their number.

    Yields:
      The batches of a piece, at least one, which are to be taken before the
      next piece.
    """
    for size, group in itertools.groupby(self._sizes(count)):
      left = sum(1 for _ in group)
      while left:
        most = min(left, max(1, PIECE_ITEMS // size))
        taken = []
        yield self._piece(examples, size, most, taken)
        left -= len(taken)

  def _piece(
    self,
    examples: Iterator[dict[str, Any]],
    size: int,
    most: int,
    taken: list[int],
  ) -> Iterator[dict]:
    """The batches of a piece, each of which is noted in `taken`."""
    end = time.monotonic() + PIECE_SECONDS
    while not taken or (len(taken) < most and time.monotonic() < end):
      batch = list(itertools.islice(examples, size))
      taken.append(len(batch))
      yield input_pipeline.collate(batch, size)

  def _find(
    self, batches: Iterator[dict]
  ) -> Iterator[tuple[int, Landmarks | None]]:
    """Runs the networks on a piece.

    Args:
      batches: The batches of a piece; all of them are taken.

    Yields:
      (index, landmarks) of each item that can be used, None for landmarks that
      are no numbers.
    """
    batches = (batch for batch in batches if batch['mask'].any())
    first = next(batches, None)
    if first is None:
      return  # none of the items can be used
    rows = self._cascade.predict(itertools.chain([first], batches))
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
      yield index, found if found.is_finite() else None


def _num_items(batch: dict) -> int:
  """The number of items of a batch, without the copies that fill it up."""
  return int(np.sum((batch['mask'] > 0) | (batch['corrupt'] > 0)))


def _told(batches: Iterator[dict], progress: Callable[[int], object]):
  """The batches, each told of when the next one is asked for."""
  for batch in batches:
    yield batch
    progress(_num_items(batch))


def load(
  workdir: str | os.PathLike,
  *,
  runtime: str = 'jax',
  warm: bool = False,
  **fields: Any,
) -> Predictor:
  """Loads a finished run, to find landmarks on photos with it.

    import fld_jax

    detector = fld_jax.load('runs/quickstart')
    (item,) = detector(['photo.jpg'], boxes=[(62, 62, 165, 300)])
    item.names        # N names
    item.positions    # (N, 2) x, y in pixels of the photo, from its top-left
    item.visibility   # N of 'visible', 'occluded', 'truncated'
    item.draw('photo.jpg').save('overlay.jpg')

  Where neither JAX is in use yet nor XLA_FLAGS is set, it sets XLA_FLAGS to the
  fastest flags for CPUs, as the command line does. Where JAX has no folder for
  compiled programs, it makes JAX keep them in the user's cache folder.

  Args:
    workdir: The run's folder, the --workdir of its training.
    runtime: What computes the networks. 'jax'; or 'onnx': ONNX Runtime, on the
      CPU in float32, with the same answers to 1e-3 pixel. It needs the extra
      onnx. The networks are converted at the first load and kept in the user's
      cache folder.
    warm: Whether to compile the programs of all sizes of batches now; else each
      is compiled by the first call that needs it.
    **fields: Values of other fields of the run's config, such as
      `flip_test=True`, which also predicts from the mirror image, or
      `**{'routing.mode': 'average'}`.

  Returns:
    A `Predictor`: a function of a list of images (paths, PIL images or
    (H, W, 3) uint8 RGB arrays) and, if given, a box for each (x1, y1, x2, y2 in
    pixels of the image), which returns one `Landmarks` an image.

  Raises:
    InputError: The folder holds no finished run, or a field does not exist, has
      a value of another type, or changes the networks; or the packages of the
      runtime are not installed.
  """
  return Predictor.load(workdir, runtime=runtime, warm=warm, **fields)
