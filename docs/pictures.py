"""Draws the pictures of the documentation.

  python docs/pictures.py runs/quickstart

writes docs/synthetic.png, rendered garments with their truth, and
docs/result.jpg, of the quickstart's test images one of each clothes type: the
one whose NE by the final stage is its type's median.
"""

import io
import pathlib
import sys

import numpy as np
from PIL import Image

DOCS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))
from fld_jax import landmark_sets  # noqa: E402
from fld_jax.datasets.synthetic import builder  # noqa: E402
from fld_jax.evaluation.evaluated_run import read_runs  # noqa: E402
from fld_jax.metrics import normalised_error  # noqa: E402
from fld_jax.visualization import sheets  # noqa: E402
from fld_jax.visualization.drawing import Marks  # noqa: E402

COUNT, COLUMNS = 12, 6  # rendered garments, and those in a line
STEP = 5  # of the records' indices: several photos show one garment


def synthetic() -> np.ndarray:
  """Rendered garments with their truth."""
  entries = []
  for index in range(0, COUNT * STEP, STEP):
    record = builder.example(seed=0, split='train', index=index)
    image = np.asarray(Image.open(io.BytesIO(record['image'])).convert('RGB'))
    marks = Marks(record['visibility'], truth=record['landmarks'])
    kind = landmark_sets.CLOTHES_TYPES[record['clothes_type']]
    entries.append(sheets.Entry(image, record['box'], kind, marks))
  return sheets.contact_sheet(entries, landmark_sets.FASHION_8, COLUMNS)


def result(workdir: pathlib.Path) -> np.ndarray:
  """The truth and the stages' estimates on one image of each type.

  Args:
    workdir: The folder of the quickstart's run.
  """
  (run,) = read_runs([workdir], 'test')
  errors = {
    stage: normalised_error.image_errors(run.predictions, stage, 'bbox_wh')
    for stage in run.stages
  }
  final, chosen = errors[run.final], []
  for code in landmark_sets.CLOTHES_TYPES:
    rows = np.flatnonzero(
      (run.predictions.clothes_type == code) & np.isfinite(final)
    )
    chosen.append(int(rows[np.argsort(final[rows])[len(rows) // 2]]))
  return sheets.overlay_sheet(run.image, run.predictions, chosen, errors)


def main() -> None:
  """Writes both pictures."""
  (workdir,) = map(pathlib.Path, sys.argv[1:])
  Image.fromarray(synthetic()).save(DOCS / 'synthetic.png')
  Image.fromarray(result(workdir)).save(DOCS / 'result.jpg', quality=90)


if __name__ == '__main__':
  main()
