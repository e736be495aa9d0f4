"""The curves of a run while it trains.

  W/history.csv   a row for each evaluation of each network
  W/training.png  the same, drawn

Both are written anew at every evaluation, from the curves that the checkpoints
hold, so a run that was killed and goes on has each evaluation once.
"""

import csv
import io
import pathlib
import time

import matplotlib

from fld_jax.errors import InputError
from fld_jax.files.atomic import write_file
from fld_jax.visualization.curves import plot_history
from fld_jax.visualization.error_plots import STYLE
from fld_jax.visualization.pictures import png

PICTURE_SECONDS = 30
# The first columns; those of single losses, which differ by config, follow.
COLUMNS = (
  'stage',
  'step',
  'images',
  'learning_rate',
  'tune_ne',
  'mean_position_ne',
  'loss',
  'error',
)


class HistoryFiles:
  """Writes the curves of a run into its folder.

  Evaluations that follow each other within PICTURE_SECONDS, as those of tiny
  networks do, share a picture: to draw one takes as long as some updates.
  """

  def __init__(self, workdir: pathlib.Path):
    """Writes nothing yet.

    Args:
      workdir: The run's folder.
    """
    self._workdir, self._drawn = workdir, -float('inf')

  def write(self, history: list[dict], is_last: bool) -> None:
    """Writes W/history.csv and W/training.png.

    Args:
      history: A record for each evaluation, see `curves.plot_history`; at least
        one. NE are fractions; a cell is empty if a network has no such figure.
      is_last: Whether this is the last evaluation of a network.

    Raises:
      InputError: If the disk is full.
    """
    others = {key for record in history for key in record} - {*COLUMNS}
    text = io.StringIO()
    writer = csv.DictWriter(
      text, [*COLUMNS, *sorted(others)], restval='', lineterminator='\n'
    )
    writer.writeheader()
    writer.writerows(history)
    files = {'history.csv': text.getvalue().encode()}
    if is_last or time.monotonic() > self._drawn + PICTURE_SECONDS:
      with matplotlib.rc_context(STYLE):
        files['training.png'] = png(plot_history(history))
      self._drawn = time.monotonic()
    for name, content in files.items():
      path = self._workdir / name
      try:
        write_file(path, content)
      except OSError as error:
        raise InputError(
          f'{path}: could not be written ({error.strerror}). The checkpoints '
          'are whole; free some space and start the same command again.'
        ) from error
