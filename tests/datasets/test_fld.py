"""The FLD benchmark's own layout, written from its description."""

import cv2
import numpy as np
from ml_collections import ConfigDict

from fld_jax import schema
from fld_jax.datasets.prepare import prepared_builder

TRIPLE = (
  'landmark_visibility_{0} landmark_location_x_{0} landmark_location_y_{0}'
)
HEADER = ' '.join(TRIPLE.format(i) for i in range(1, 9))
# Zero-padded as in the release; rows end with their type's last landmark.
LISTS = {
  'Anno/list_bbox.txt': """3
image_name x_1 y_1 x_2 y_2
img_00000001.jpg 010 005 060 090
img_00000002.jpg 001 002 070 098
img_00000003.jpg 005 005 075 095
""",
  'Anno/list_landmarks.txt': f"""3
image_name clothes_type variation_type {HEADER}
img_00000001.jpg 1 4 0 020 010 1 040 010 0 012 040 2 000 000 0 015 080 0 055 081
img_00000002.jpg 2 1 0 010 010 0 060 010 1 012 090 0 055 091
img_00000003.jpg 3 5 0 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 11 12 0 13 14 2 0 0
""",
  'Anno/list_joints.txt': """3
image_name clothes_type variation_type joint_visibility_1 joint_location_x_1
img_00000001.jpg 1 4 0 020
""",
  'Eval/list_eval_partition.txt': """3
image_name evaluation_status
img_00000001.jpg train
img_00000002.jpg val
img_00000003.jpg test
""",
}


def test_records(tmp_path):
  folder = tmp_path / 'FLD'
  for name, text in LISTS.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
  (folder / 'Img').mkdir()
  for i in (1, 2, 3):
    image = np.full((100, 80, 3), 40 * i, np.uint8)
    cv2.imwrite(str(folder / f'Img/img_0000000{i}.jpg'), image)
  fields = {'name': 'fld', 'manual_dir': str(folder)}
  builder = prepared_builder(
    ConfigDict({**fields, 'data_dir': str(tmp_path / 'data')})
  )
  assert builder.name == 'fld'
  V, O, T, A = (  # noqa: E741
    schema.VISIBLE,
    schema.OCCLUDED,
    schema.TRUNCATED,
    schema.ABSENT,
  )
  (upper,) = builder.as_data_source('train')
  assert (upper['clothes_type'], upper['variation']) == (1, 4)
  assert upper['visibility'].tolist() == [V, O, V, T, A, A, V, V]
  np.testing.assert_array_equal(
    upper['landmarks'][[1, 7]], [[40, 10], [55, 81]]
  )
  np.testing.assert_array_equal(upper['box'], [10, 5, 60, 90])
  (lower,) = builder.as_data_source('val')
  assert lower['visibility'].tolist() == [A, A, A, A, V, V, O, V]
  np.testing.assert_array_equal(lower['landmarks'][6], [12, 90])
  (full,) = builder.as_data_source('test')
  assert (full['clothes_type'], full['variation']) == (3, 5)
  assert full['visibility'].tolist() == [V] * 7 + [T]
