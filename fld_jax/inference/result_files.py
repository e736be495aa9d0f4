"""The files of predictions, written item by item.

predictions.json    a whole COCO file, see `coco_output`
predictions.csv     one line an item
attributes.csv      one line an item, if the run predicts attributes
label_studio.json, label_studio.xml, cvat.json
                    if asked for, see `labelling_tools`
measures.csv, size_chart.csv
                    if asked for, see `measures`
ranking.csv         if asked for, see `ranking`; the others have its order
"""

import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Iterable

from fld_jax import schema
from fld_jax.errors import InputError
from fld_jax.files import atomic, file_names
from fld_jax.files.json_files import ListWriter
from fld_jax.inference import coco_output, labelling_tools, measures, ranking
from fld_jax.inference.item_boxes import Item
from fld_jax.inference.landmarks import Landmarks

RESULTS = ('predictions.json', 'predictions.csv')
OF_TOOLS = {
  'label_studio': ('label_studio.json', 'label_studio.xml'),
  'cvat': ('cvat.json',),
}
OF_MEASURES = ('measures.csv', 'size_chart.csv')
FILES = (
  *RESULTS,
  'attributes.csv',
  *itertools.chain(*OF_TOOLS.values()),
  *OF_MEASURES,
  ranking.NAME,
)
_ERRORS = ('error_50', 'error_90')
_FIELDS = ('x', 'y', 'visibility', 'probability', 'confidence', *_ERRORS)


@dataclasses.dataclass(frozen=True)
class Formats:
  """What is written beside predictions.json and predictions.csv.

  Attributes:
    tools: The labelling tools to write annotations for, of
      `labelling_tools.TOOLS`.
    image_prefix: What stands before an image's name in Label Studio's tasks.
    model: The name of the model in Label Studio's tasks.
    measures: The lengths to be measured, see `measures.parse`.
    scale: How centimetres are known, see `scales`; '' if they are not.
    ranked: Whether the images stand in the order of `ranking`.
  """

  tools: tuple[str, ...] = ()
  image_prefix: str = labelling_tools.IMAGE_PREFIX
  model: str = ''
  measures: tuple[str, ...] = ()
  scale: str = ''
  ranked: bool = False

  def __post_init__(self):
    for tool in self.tools:
      if tool not in labelling_tools.TOOLS:
        raise InputError(
          f"--pre_annotations is '{tool}', must be of "
          f'{", ".join(labelling_tools.TOOLS)}'
        )
    if self.scale and not self.measures:
      raise InputError('--scale is given without --measure')
    measures.parse(self.measures)

  @property
  def files(self) -> tuple[str, ...]:
    """The names of all files of results."""
    of_tools = itertools.chain(*map(OF_TOOLS.get, self.tools))
    names = [*RESULTS, *of_tools]
    names += OF_MEASURES if self.measures else ()
    names += (ranking.NAME,) if self.ranked else ()
    return tuple(names)


class ResultFiles(contextlib.ExitStack):
  """Writes the files of results; each takes its place at the end or never."""

  def __init__(
    self,
    output: pathlib.Path,
    landmarks: schema.LandmarkSet,
    export: coco_output.Export | None,
    formats: Formats,
    measuring: measures.Measures | None = None,
  ):
    """Opens the files.

    Args:
      output: The folder, which exists.
      landmarks: The landmark set of the run.
      export: The COCO file that the boxes come from; None if they come from
        elsewhere.
      formats: The files of results that are written.
      measuring: What is measured on the items; None if nothing is.
    """
    super().__init__()
    self._output, self._formats = output, formats
    self._measuring = measuring
    self._document = coco_output.Document(landmarks, export)
    self._json = coco_output.Writer(self._open('predictions.json'))
    self._csv = self._open('predictions.csv')
    header = ['image', 'x1', 'y1', 'x2', 'y2', 'category', 'score', 'route']
    header += [
      f'{name}_{field}' for name in landmarks.names for field in _FIELDS
    ]
    self._csv.write(file_names.csv_line(map(file_names.to_cell, header)))
    self._attributes = self._tasks = self._cvat = None
    if 'label_studio' in formats.tools:
      self._tasks_file = self._open('label_studio.json')
      self._tasks = ListWriter(self._tasks_file)
    if 'cvat' in formats.tools:
      self._cvat_json = coco_output.Writer(self._open('cvat.json'))
      self._cvat = labelling_tools.CvatAnnotations(coco_output.UNKNOWN)

    if measuring:
      self._lengths = self._open('measures.csv')
      self._lengths.write(file_names.csv_line(measuring.header()))

  def _open(self, name: str):
    return self.enter_context(atomic.whole_file(self._output / name))

  def write(self, name: str, found: Iterable[tuple[Item, Landmarks]]) -> None:
    """Adds the items on an image.

    Args:
      name: The name of the image below the folder of photos.
      found: The items and their landmarks.
    """
    annotations = []
    for item, landmarks in found:
      # The networks' copy of it has fewer digits.
      box = landmarks.box if item.box is None else item.box
      landmarks = dataclasses.replace(landmarks, box=box)
      annotation = self._document.add(
        name, landmarks.image_size, landmarks, item.entry
      )
      annotations.append(annotation)
      self._json.write(annotation)
      cells = _cells(file_names.encoded(name), landmarks)
      self._csv.write(file_names.csv_line(cells))
      if self._measuring:
        self._lengths.write(self._measuring.line(name, landmarks))
      if landmarks.attributes is not None:
        self._write_attributes(cells[:5], landmarks.attributes)
    categories = self._document.by_id
    if self._tasks and annotations:
      self._tasks.write(
        labelling_tools.label_studio_task(
          self._document.image_of(annotations[0]),
          annotations,
          categories,
          self._formats.image_prefix,
          self._formats.model,
        )
      )
    for annotation in annotations if self._cvat else ():
      entry = self._cvat.annotation(annotation, categories)
      if entry is not None:
        self._cvat_json.write(entry)

  def _write_attributes(
    self, cells: list[str], found: dict[str, float]
  ) -> None:
    """Adds a line to attributes.csv, which is opened for the first one.

    Args:
      cells: The name of the image and the item's box, as in predictions.csv.
      found: The probability of each attribute.
    """
    if self._attributes is None:
      self._attributes = self._open('attributes.csv')
      header = ['image', 'x1', 'y1', 'x2', 'y2', *found]
      line = file_names.csv_line(map(file_names.to_cell, header))
      self._attributes.write(line)
    cells = [*cells, *map('{:.4f}'.format, found.values())]
    self._attributes.write(file_names.csv_line(cells))

  def finish(self) -> list[str]:
    """Writes the ends of the files.

    Returns:
      Sentences about what the files do not hold as one may expect.
    """
    document = self._document
    self._json.close(document.rest())
    notes = document.notes()
    if self._measuring:
      self._measuring.write_chart(self._open('size_chart.csv'))
      notes += self._measuring.notes()
    if self._tasks:
      self._tasks.close()
      self._tasks_file.write(b'\n')
      config = labelling_tools.label_studio_config(document.categories)
      self._open('label_studio.xml').write(config)
    if self._cvat:
      rest = self._cvat.rest(document.images, document.categories)
      self._cvat_json.close(rest)
      if self._cvat.num_left_out:
        notes.append(
          f'cvat.json leaves out these {self._cvat.num_left_out} items: CVAT '
          'refuses a category that it does not have'
        )
    return notes


def _cells(name: str, found: Landmarks) -> list[str]:
  """A line of the CSV; cells of what is not known are empty."""
  number = lambda value: f'{value:.6g}'
  cells = [
    file_names.to_cell(name),
    *map('{:.2f}'.format, found.box),
    file_names.to_cell(found.category),
    number(found.score),
    ' '.join(found.route),
  ]
  for i in range(len(found.names)):
    if not found.present[i]:
      cells += [''] * len(_FIELDS)
      continue
    cells += map('{:.2f}'.format, found.positions[i])
    if found.visibility:
      cells += [found.visibility[i], number(found.visibility_probs[i].max())]
    else:
      cells += ['', '']
    cells.append(number(found.confidence[i]))
    for name in _ERRORS:
      values = getattr(found, name)
      known = values is not None and math.isfinite(values[i])
      cells.append(f'{values[i]:.2f}' if known else '')
  return cells
