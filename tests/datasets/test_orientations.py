"""Photos that EXIF data turn: landmarks stay where they were labelled.

The oracle is Pillow's `exif_transpose`, and the colours of drawn dots.
"""

import io
import json

import numpy as np
import pytest
from coco_folders import config_of
from PIL import Image, ImageOps, features

from fld_jax import geometry
from fld_jax.datasets import prepare
from fld_jax.datasets.common.rows import read_image
from fld_jax.doctor import examine, sheets
from fld_jax.errors import Findings, InputError
from fld_jax.files import images
from fld_jax.inference import photos

ORIENTATIONS = range(1, 9)
NAMES = ['left_a', 'right_a', 'middle']
DOTS = {
  'left_a': (220, 20, 20),
  'right_a': (20, 200, 20),
  'middle': (20, 20, 220),
}
# Positions on the photo as it is shown; no two are mirror images of each other.
PLACES = np.array([[20.0, 24], [76, 40], [44, 84]])
KINDS = {
  'JPEG': {'quality': 95, 'subsampling': 0},
  'PNG': {},
  'WEBP': {'lossless': True},
  'TIFF': {},
  'MPO': {'quality': 95, 'subsampling': 0},
}
INVERSE = {
  1: None,
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_90,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_270,
}


def shown_picture(size) -> Image.Image:
  picture = np.full((size[1], size[0], 3), 235, np.uint8)
  for (x, y), colour in zip(PLACES.astype(int), DOTS.values(), strict=True):
    picture[y - 8 : y + 8, x - 8 : x + 8] = colour
  return Image.fromarray(picture)


def save(
  path, shown: Image.Image, orientation: int, kind='JPEG'
) -> Image.Image:
  """Stores a photo turned, so that a viewer shows it as given."""
  how = INVERSE[orientation]
  stored = shown if how is None else shown.transpose(how)
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored.save(path, kind, exif=exif, **KINDS[kind])
  with Image.open(path) as image:
    upright = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
  assert np.abs(upright.astype(int) - np.asarray(shown)).mean() < 3
  return stored


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_points_go_where_pillow_puts_pixels(orientation):
  rng = np.random.default_rng(orientation)
  for _ in range(20):
    width, height = rng.integers(1, 9, 2).tolist()
    values = rng.permutation(width * height).reshape(height, width)
    image = Image.fromarray(values.astype(np.uint8))
    image.getexif()[0x0112] = orientation
    shown = np.asarray(ImageOps.exif_transpose(image))
    size = geometry.upright_size((width, height), orientation)
    assert shown.shape == size[::-1]
    rows, columns = np.mgrid[:height, :width]
    centres = np.stack([columns, rows], axis=-1) + 0.5
    points = geometry.upright_points(centres, (width, height), orientation)
    places = np.floor(points).astype(int)
    np.testing.assert_array_equal(points - places, 0.5)
    np.testing.assert_array_equal(shown[places[..., 1], places[..., 0]], values)


def write(folder, orientation, kind='JPEG', announced='shown', size=(96, 120)):
  """Four photos with dots; landmarks count in what `announced` says."""
  (folder / 'images').mkdir(parents=True)
  data = {'images': [], 'annotations': []}
  data['categories'] = [{'id': 1, 'name': 'x', 'keypoints': NAMES}]
  for i in range(4):
    name = f'{i}.{kind.lower()}'
    shown = shown_picture(size)
    stored = save(folder / 'images' / name, shown, orientation, kind)
    points, box = PLACES, np.array([[10.0, 14], [88, 100]])
    sides = {'shown': size, 'stored': stored.size, 'absent': (None, None)}
    if announced == 'stored' and stored.size != size:
      # Back to the stored photo: by the orientation that undoes this one.
      undo = {6: 8, 8: 6}.get(orientation, orientation)
      points = geometry.upright_points(points, size, undo)
      box = geometry.upright_points(box, size, undo)
    low, high = box.min(axis=0), box.max(axis=0)
    width, height = sides[announced]
    data['images'].append(
      {'id': i, 'file_name': name, 'width': width, 'height': height}
    )
    triples = np.column_stack([points, [2, 2, 2]])
    data['annotations'].append(
      {
        **{'id': i, 'image_id': i, 'category_id': 1},
        'bbox': [*low, *(high - low)],
        'keypoints': triples.ravel().tolist(),
      }
    )
  (folder / 'result.json').write_text(json.dumps(data))
  return folder


def check_dots(picture, landmarks) -> None:
  """Each landmark lies on the dot of its colour."""
  for colour, (x, y) in zip(DOTS.values(), landmarks, strict=True):
    seen = picture[int(y), int(x)].astype(int)
    assert np.abs(seen - colour).max() < 60, (colour, seen)


def notes_of(findings, words: str) -> int:
  return sum(n for what, n in findings.notes.items() if words in what)


@pytest.mark.parametrize('announced', ['shown', 'stored', 'absent'])
@pytest.mark.parametrize('orientation', ORIENTATIONS)
@pytest.mark.parametrize('kind', KINDS)
def test_rows(tmp_path, kind, orientation, announced):
  if kind == 'WEBP' and not features.check('webp'):
    pytest.skip('Pillow is without WEBP')
  folder = write(tmp_path / 'x', orientation, kind, announced)
  findings = Findings()
  builder = prepare.make_builder(config_of(folder, tmp_path / 'records'))
  rows = list(builder.read(findings))
  assert len(rows) == 4
  for row in rows:
    # As training and as predict read it.
    for picture in (images.decode(read_image(row)), photos.to_array(row.path)):
      assert picture.shape == (120, 96, 3)
      check_dots(picture, row.landmarks)
    np.testing.assert_allclose(row.box, [10, 14, 88, 100], atol=1e-4)
  assert notes_of(findings, 'EXIF') == (4 if orientation > 1 else 0)
  unclear = announced == 'stored' and orientation >= 5
  assert notes_of(findings, 'before turning') == (4 if unclear else 0)


@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_square_photos_are_taken_as_they_are_shown(tmp_path, orientation):
  folder = write(tmp_path / 'x', orientation, size=(108, 108))
  findings = Findings()
  builder = prepare.make_builder(config_of(folder, tmp_path / 'records'))
  for row in builder.read(findings):
    check_dots(images.read(row.path), row.landmarks)
  assert notes_of(findings, 'EXIF') == (4 if orientation > 1 else 0)


@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_another_size_is_refused_with_its_cause(tmp_path, orientation):
  folder = write(tmp_path / 'x', orientation)
  path = folder / 'result.json'
  data = json.loads(path.read_text())
  data['images'][0]['width'] = 97
  path.write_text(json.dumps(data))
  with pytest.raises(
    InputError, match='are 97 x 120, but .*0.jpeg is'
  ) as raised:
    prepare.prepare(config_of(folder, tmp_path / 'records'))
  turned = '96 x 120 as it is shown (EXIF orientation 6)'
  assert (turned in str(raised.value)) == (orientation == 6)


@pytest.mark.parametrize('announced', ['shown', 'stored'])
@pytest.mark.parametrize('orientation', ORIENTATIONS)
def test_prepared_and_examined(tmp_path, monkeypatch, orientation, announced):
  """The record, the doctor's contact sheet and predict see one picture."""
  folder = write(tmp_path / 'x', orientation, announced=announced)
  config = config_of(folder, tmp_path / 'records')
  builder = prepare.prepared_builder(config)
  for split in builder.info.splits:
    for record in builder.as_data_source(
      split, decoders={'image': prepare.tfds.decode.SkipDecoding()}
    ):
      check_dots(images.decode(record['image']), record['landmarks'])
  drawn = []

  def contact_sheet(entries, *_, **__):
    drawn.extend(entries)
    return np.zeros((9, 9, 3), np.uint8)

  monkeypatch.setattr(sheets.sheets, 'contact_sheet', contact_sheet)
  found = examine.examine(config, tmp_path / 'out')
  assert found['counts']['rows'] == len(drawn) == 4
  assert not sum(kind['count'] for kind in found['mistakes'].values())
  for entry in drawn:
    check_dots(entry.image, entry.marks.truth)
  told = any('EXIF data turn' in line for line in found['about'])
  assert told == (orientation > 1)


def test_an_orientation_that_is_none(tmp_path):
  """As Pillow does, it is taken for none."""
  for value in (0, 9, 700):
    path = tmp_path / 'x.png'
    exif = Image.Exif()
    exif[0x0112] = value
    shown_picture((96, 120)).save(path, exif=exif)
    assert images.stored_size(str(path), 'x') == ((96, 120), 1)
    assert images.read(path).shape == (120, 96, 3)


ALPHAS = {
  'RGBA': lambda picture: picture.convert('RGBA'),
  'LA': lambda picture: picture.convert('LA'),
  'P': lambda picture: picture.convert('P', palette=Image.Palette.ADAPTIVE),
}


@pytest.mark.parametrize('mode', ALPHAS)
def test_what_is_transparent_is_white_in_training_as_in_predict(tmp_path, mode):
  picture = ALPHAS[mode](Image.new('RGB', (60, 40), (200, 30, 90)))
  if mode == 'P':
    picture.info['transparency'] = picture.getpixel((0, 0))
  else:
    alpha = Image.new('L', picture.size, 255)
    alpha.paste(0, (0, 0, 30, 40))
    picture.putalpha(alpha)
  file = io.BytesIO()
  picture.save(file, 'PNG')
  path = tmp_path / 'x.png'
  path.write_bytes(file.getvalue())
  trained = images.decode(file.getvalue())
  np.testing.assert_array_equal(trained, images.read(path))
  encoded, seen = images.decode_image(str(path), 'list')
  np.testing.assert_array_equal(np.asarray(seen), trained)
  assert encoded == file.getvalue()
  assert (trained[:, :30] == 255).all()
  np.testing.assert_array_equal(photos.to_array(path), trained)
