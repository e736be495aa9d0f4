"""A guess that ignores the image, to see whether a network learnt anything.

  W/mean_position.json        each landmark's mean place in its box, by clothes
                              type, over the training images
  W/eval/SPLIT/baseline.json  figures of guessing these places on a split

The figures have a file of their own: metrics.json is what a network is worth,
which must not change with what it is held against, so that runs of other
versions stay comparable byte by byte.
"""

import dataclasses
import pathlib

import numpy as np

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.evaluation.text_tables import percent
from fld_jax.files import json_files
from fld_jax.input_pipeline import Records
from fld_jax.metrics import normalised_error
from fld_jax.metrics.predictions import Predictions

NAME = 'mean position'
_TRUTH = ('boxes', 'landmarks', 'visibility', 'clothes_type', 'variation')
_NORMS = {
  'bbox_wh': 'of the box (x by its width, y by its height)',
  'keypair': 'of the distance of two landmarks that the clothes type decides',
}


@dataclasses.dataclass(frozen=True, eq=False)
class MeanPosition:
  """The mean places of the training images' landmarks.

  Attributes:
    landmarks: The N landmarks.
    places: Clothes type code -> (N, 2) places, see
      `normalised_error.mean_places`.
  """

  landmarks: schema.LandmarkSet
  places: dict[int, np.ndarray]

  @classmethod
  def measure(
    cls, landmarks: schema.LandmarkSet, records: Records
  ) -> 'MeanPosition':
    """Measures the places; images are not decoded.

    Args:
      landmarks: The N landmarks.
      records: The training images.
    """
    truth = read_truth(landmarks, records)
    return cls(landmarks, normalised_error.mean_places(truth))

  @classmethod
  def read(
    cls, landmarks: schema.LandmarkSet, workdir: pathlib.Path
  ) -> 'MeanPosition | None':
    """Reads the places that a training left.

    Args:
      landmarks: The N landmarks.
      workdir: The run's folder.

    Returns:
      The guess; None if the training left none, as older versions did, or if
      it was of other landmarks.

    Raises:
      InputError: If the file is damaged.
    """
    path = _file(workdir)
    if not path.exists():
      return None
    saved = json_files.read_json(path)
    try:
      names = tuple(saved['landmarks'])
      places = {
        int(code): np.array(of_type, np.float64)
        for code, of_type in saved['places'].items()
      }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise InputError(
        f'{path}: is not what a training left ({error}): remove it, and '
        '--mode=train makes it again'
      ) from error
    shapes = {of_type.shape for of_type in places.values()}
    if shapes != {(len(names), 2)} or not all(
      np.isfinite(of_type).all() for of_type in places.values()
    ):
      raise InputError(
        f'{path}, places: must be two finite numbers for each of '
        f'{len(names)} landmarks, by clothes type: remove the file, and '
        '--mode=train makes it again'
      )
    return cls(landmarks, places) if names == landmarks.names else None

  def save(self, workdir: pathlib.Path) -> None:
    """Writes W/mean_position.json.

    Args:
      workdir: The run's folder.
    """
    places = {str(code): each.tolist() for code, each in self.places.items()}
    content = {'landmarks': list(self.landmarks.names), 'places': places}
    json_files.write_json(_file(workdir), content)

  def figures(self, truth: Predictions) -> dict:
    """Measures the guess.

    Args:
      truth: The images to guess on; their estimates do not matter.

    Returns:
      `norm`, `num_examples`, and as in metrics.json of a stage `ne`,
      `ne_annotated`, `ne_by_clothes_type`, `ne_by_variation`, `pdl_at_15` and
      `outlier_rate`. NE and shares are fractions.
    """
    guessed = Predictions(
      ids=truth.ids,
      image_ids=truth.image_ids,
      image_sizes=truth.image_sizes,
      estimates={NAME: normalised_error.mean_position(self.places, truth)},
      visibility_probs={},
      landmark_set=self.landmarks,
      **{name: getattr(truth, name) for name in _TRUTH},
    )
    measured = normalised_error.evaluate(guessed)
    names = ('ne', 'ne_annotated', 'ne_by_clothes_type', 'ne_by_variation')
    names += ('pdl_at_15', 'outlier_rate')
    return {
      'norm': measured['norm'],
      'num_examples': measured['num_examples'],
      **{name: measured['stages'][NAME][name] for name in names},
    }


def _file(workdir: pathlib.Path) -> pathlib.Path:
  return workdir / 'mean_position.json'


def read_truth(landmarks: schema.LandmarkSet, records: Records) -> Predictions:
  """Reads what is known of images without decoding them.

  Args:
    landmarks: The N landmarks.
    records: The images.

  Returns:
    A table without estimates; sizes of images are not known, and 0.
  """
  keys = ('box', 'landmarks', 'visibility', 'clothes_type', 'variation', 'id')
  columns = {key: [] for key in keys}
  for i in range(len(records)):
    record = records[i]
    for key in keys:
      columns[key].append(record[key])
  ids = [name.decode() for name in columns.pop('id')]
  arrays = {key: np.stack(column) for key, column in columns.items()}
  return Predictions(
    ids=ids,
    image_ids=records.indices.astype(np.int64),
    boxes=arrays.pop('box'),
    image_sizes=np.zeros((len(ids), 2)),
    estimates={},
    visibility_probs={},
    landmark_set=landmarks,
    **arrays,
  )


def about_ne(landmarks: schema.LandmarkSet) -> str:
  """Explains NE and its mean in one sentence, for the console.

  Args:
    landmarks: The landmarks that it is measured of.
  """
  unit = _NORMS.get(landmarks.norm, f'divided by {landmarks.norm}')
  return (
    'NE is the distance from an estimated landmark to the true one, in per '
    f"cent {unit}; macro NE is the mean of the landmarks' mean NE, in which "
    'a rare landmark counts as much as a frequent one.'
  )


def compare(ne: float | None, guess: float | None) -> str:
  """Says in a sentence how much better than the guess a network is.

  Args:
    ne: The network's macro NE, None if it was not measured.
    guess: The macro NE of the guess.

  Returns:
    The sentence; '' if one of the figures is not known.
  """
  if ne is None or guess is None:
    return ''
  first = (
    "A constant guess, each landmark's mean position in the training images, "
    f'has macro NE {percent(guess)} %'
  )
  if ne < guess:
    return f'{first}; that of the network is {percent(ne)} %.'
  return (
    f'{first}, and the network is not better with {percent(ne)} %: it has '
    'learnt nothing from the images that would help. Train longer, on more '
    'images, or look for mistakes in the data with --mode=doctor.'
  )
