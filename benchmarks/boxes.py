"""NE of finished runs where boxes do not fit (docs/results/pcloss.md).

  python benchmarks/boxes.py W ...

prints for each run the macro NE of its last stage on val in per cent, with the
annotated boxes and with normal noise on each of their sides.
"""

import pathlib
import sys
from typing import Any

import numpy as np

from fld_jax import input_pipeline
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.evaluation import evaluate
from fld_jax.runtime.parallel import Parallel

# Standard deviations of the noise on a side, in box widths or heights.
DEVIATIONS = (0.0, 0.02, 0.05, 0.1)


class NoisyBoxes(input_pipeline.Records):
  """Records with noise on their boxes, the same for a record every time.

  Attributes:
    deviation: The standard deviation of the noise, in box widths or heights.
  """

  deviation = 0.0

  def __getitem__(self, i: int) -> dict[str, Any]:
    record = super().__getitem__(i)
    x1, y1, x2, y2 = record['box']
    noise = np.random.default_rng(int(record['index'])).normal(size=4)
    moved = self.deviation * noise * np.tile([x2 - x1, y2 - y1], 2)
    return {**record, 'box': (record['box'] + moved).astype(np.float32)}


def main() -> None:
  """Predicts val once for each run and deviation."""
  for workdir in sys.argv[1:]:
    config = trained.get_config(workdir)
    stages, _ = store.load_cascade(
      config, resolve(config), pathlib.Path(workdir)
    )
    cascade = Cascade(stages, resolve(config), Parallel())
    records = NoisyBoxes(prepared_builder(config.dataset), 'val')
    boxes, found = None, []
    for records.deviation in DEVIATIONS:
      rows = cascade.predict_records(records)
      # Errors are divided by the sides of the annotated boxes.
      boxes = rows['box'] if boxes is None else boxes
      ne, _ = evaluate.macro_ne(
        {**rows, 'box': boxes}, stages[-1].name, resolve(config)
      )
      found.append(100 * ne)
    print(workdir, *(f'{ne:.2f}' for ne in found), flush=True)


if __name__ == '__main__':
  main()
