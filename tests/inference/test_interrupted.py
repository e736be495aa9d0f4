"""Interrupted predictions, full disks, odd names: nothing else is lost."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import small_disks
from PIL import Image
from predicted import results_of

from fld_jax.configs import trained
from fld_jax.errors import InputError, Unwritable
from fld_jax.files import file_names
from fld_jax.inference import photos, predict_files, predictor, unfinished
from fld_jax.inference.item_boxes import Item
from fld_jax.inference.landmarks import Landmarks
from fld_jax.schema import LandmarkSet

PAIR = LandmarkSet(('a', 'b'))
ABOUT = {'run': 'x', 'settings': {'--overlays': True}}


def made_up(i):
  """The landmarks of an item, another for each number."""
  rng = np.random.default_rng(i)
  return Landmarks(
    landmark_set=PAIR,
    box=rng.uniform(size=4),
    positions=rng.uniform(size=(2, 2)),
    present=np.array([True, i % 2 == 0]),
    visibility=('visible', 'truncated') if i % 3 else None,
    visibility_probs=rng.uniform(size=(2, 3)) if i % 3 else None,
    confidence=rng.uniform(size=2).astype(np.float32),
    score=float(rng.uniform()),
    route=('stage1', 'stage2'),
    stages={'stage1': np.zeros((2, 2))},
    error_50=rng.uniform(size=2) if i % 2 else None,
    error_90=np.array([3.5, np.inf]) if i % 2 else None,
    attributes={'striped': 0.25, 'v neck': 1.0} if i % 2 else None,
  )


def same(one, other):
  if isinstance(one, str) or isinstance(other, str):
    return one == other
  return all(
    np.array_equal(getattr(one, field), getattr(other, field))
    for field in (
      *('box', 'positions', 'present', 'confidence', 'score', 'route'),
      *('error_50', 'error_90'),
    )
  ) and (one.visibility, one.names, one.attributes) == (
    other.visibility,
    other.names,
    other.attributes,
  )


def items_of(images):
  return [Item(name, np.array([i, 0, 9, 9])) for i, name in enumerate(images)]


def opened(folder, items, about=ABOUT):
  keys = unfinished.item_keys(folder, [item.image for item in items], items)
  return unfinished.Unfinished(folder, about, items, keys)


IMAGES = ['0', '1', '1', '2', '2', '2', '3', '4']
GROUPS = ([0], [1, 2], [3, 4, 5], [6], [7])


def result(i):
  return f'broken {i}' if i in (2, 6) else made_up(i)


def test_a_kill_at_any_byte_loses_no_whole_image(tmp_path):
  items = items_of(IMAGES)
  with opened(tmp_path, items) as work:
    for group in GROUPS:
      work.add([(i, result(i)) for i in group])
    assert not work.left()
  content = work.path.read_bytes()
  ends = [i + 1 for i, byte in enumerate(content) if byte == ord(b'\n')]
  for cut in range(len(content) + 1):
    work.path.write_bytes(content[:cut])
    lines = sum(end <= cut for end in ends) - 1  # but for the first
    done = [i for group in GROUPS if group[-1] < lines for i in group]
    with opened(tmp_path, items) as work:
      assert work.left() == [i for i in range(len(items)) if i not in done]
      assert work.num_done() == len(done) and not work.begins_anew
      for group in GROUPS:
        if group[0] not in done:
          work.add([(i, result(i)) for i in group])
      assert not work.left()
      for i in range(len(items)):
        assert same(work.read(i, PAIR), result(i))


@pytest.mark.parametrize(
  ('about', 'words'),
  [
    ({**ABOUT, 'run': 'y'}, 'the run'),
    ({**ABOUT, 'settings': {'--overlays': False}}, '--overlays'),
    ({**ABOUT, 'settings': {}}, '--overlays'),
  ],
)
def test_results_of_something_else_do_not_count(tmp_path, about, words):
  items = items_of(IMAGES)
  with opened(tmp_path, items) as work:
    work.add([(0, result(0))])
  with opened(tmp_path, items, about) as work:
    assert work.begins_anew == words and len(work.left()) == len(items)
  with opened(tmp_path, items, about) as work:
    assert not work.begins_anew


@pytest.mark.parametrize('content', [b'', b'\0\0\n', b'[]\n', b'{"run": 1}\n'])
def test_files_of_anything_else(tmp_path, content):
  (tmp_path / unfinished.NAME).write_bytes(content)
  with opened(tmp_path, items_of(IMAGES)) as work:
    assert len(work.left()) == len(IMAGES)
    assert bool(work.begins_anew) == bool(content)


def test_what_has_changed_is_done_again(tmp_path):
  for name in '0123':
    (tmp_path / name).write_bytes(b'x')
  items = items_of(['0', '1', '2', '3'])
  with opened(tmp_path, items) as work:
    work.add([(i, result(i)) for i in range(4)])
  os.utime(tmp_path / '1', (1, 1))
  (tmp_path / '2').write_bytes(b'xy')
  os.utime(tmp_path / '2', ns=(0, os.stat(tmp_path / '0').st_mtime_ns))
  (tmp_path / '4').write_bytes(b'x')
  moved = Item('3', np.array([0, 0, 5, 5]))
  typed = Item('0', items[0].box, 2)
  with opened(tmp_path, [*items[:3], moved, Item('4', None), typed]) as work:
    # The image 0 has one item more, and its overlay shows both.
    assert work.left() == [0, 1, 2, 3, 4, 5]
  with opened(tmp_path, items) as work:
    assert work.left() == [1, 2]


def test_equal_boxes_are_two_items(tmp_path):
  items = [Item('0', None), Item('0', None)]
  first, second = unfinished.item_keys(tmp_path, ['0', '0'], items)
  assert first != second


# --- The whole of it


def predict(workdir, images, output, **options):
  config = trained.get_config(str(workdir))
  return predict_files.predict_files(
    config, workdir, str(images), None, output, **options
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """40 photos, every fifth broken."""
  folder = tmp_path_factory.mktemp('photos')
  rng = np.random.default_rng(0)
  for i in range(40):
    path = folder / f'{i:02}.jpg'
    if i % 5 == 3:
      path.write_text('broken')
    else:
      Image.fromarray(rng.integers(0, 256, (40, 32, 3), np.uint8)).save(path)
  return folder


@pytest.fixture(scope='module')
def reference(trained_workdir, folder, tmp_path_factory):
  output = tmp_path_factory.mktemp('reference')
  assert not predict(trained_workdir, folder, output)['ok']
  return output


def check_results(output, reference):
  """That two folders hold the same, but for the last digits of numbers."""
  ours, theirs = results_of(output), results_of(reference)
  for one, other in zip(ours, theirs, strict=True):
    assert one['file_name'] == other['file_name']
    assert one['image_id'] == other['image_id']
    np.testing.assert_allclose(one['keypoints'], other['keypoints'], atol=1e-3)
  rows = lambda path, name: [
    line[0] for line in csv.reader((path / name).open(newline=''))
  ]
  for name in ('predictions.csv', 'failures.csv'):
    assert rows(output, name) == rows(reference, name)
  files = lambda path: sorted(p.name for p in path.rglob('*'))
  assert files(output) == files(reference)


@pytest.mark.parametrize('stops', [(0,), (17,), (1, 9, 25)])
def test_interrupted_work_goes_on(
  trained_workdir, folder, reference, tmp_path, monkeypatch, stops, capsys
):
  monkeypatch.setattr(predictor, 'PIECE_ITEMS', 8)
  plain, drawn = predict_files._draw, []
  for stop in stops:

    def draw(photo, *rest, limit=stop):
      if len(drawn) >= limit:
        raise KeyboardInterrupt
      drawn.append(photo.name)
      plain(photo, *rest)

    monkeypatch.setattr(predict_files, '_draw', draw)
    with pytest.raises(KeyboardInterrupt):
      predict(trained_workdir, folder, tmp_path)
    assert (tmp_path / unfinished.NAME).exists()
    assert not (tmp_path / 'predictions.json').exists()
    lines = (tmp_path / unfinished.NAME).read_text().splitlines()[1:]
    saved = [json.loads(line)['image'] for line in lines]
    assert len(saved) == len(set(saved))
    assert set(drawn) <= {*saved, *drawn}
    drawn[:] = [name for name in drawn if name in saved]
  monkeypatch.setattr(predict_files, '_draw', plain)
  read = []
  monkeypatch.setattr(
    photos.Items,
    '_read',
    lambda self, i, plain=photos.Items._read: (
      read.append(self._images[i].name) or plain(self, i)
    ),
  )
  capsys.readouterr()
  predict(trained_workdir, folder, tmp_path)
  assert sorted(read + saved) == sorted(os.listdir(folder))  # each once
  said = 'Goes on after an interruption: ' in capsys.readouterr().out
  assert said == bool(saved)
  check_results(tmp_path, reference)


@pytest.mark.parametrize('sent', ['SIGKILL', 'SIGTERM', 'SIGINT'])
def test_signals(trained_workdir, folder, reference, tmp_path, sent):
  """Whenever it is killed, the same command goes on; and Ctrl-C is a line."""
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=predict']
  command += [f'--workdir={trained_workdir}', f'--images={folder}']
  command += [f'--output={tmp_path}']
  partial = tmp_path / unfinished.NAME
  with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
    while running.poll() is None:
      if partial.exists() and partial.stat().st_size > 2000:
        running.send_signal(getattr(signal, sent))
        break
      time.sleep(0.005)
    said = running.stderr.read()
  if running.returncode != 1:  # it can be at its end before
    number = -getattr(signal, sent)
    assert running.returncode == (130 if sent == 'SIGINT' else number)
    assert 'Traceback' not in said
    if sent == 'SIGINT':
      last = 'goes on with what is saved.\n'
      assert said.endswith(last) and said.count('Interrupted') == 1
  (tmp_path / '.predictions.json.999999999.tmp').write_bytes(b'half')
  (tmp_path / 'overlays').mkdir(exist_ok=True)
  (tmp_path / 'overlays/.0.jpg.999999999.tmp').write_bytes(b'half')
  predict(trained_workdir, folder, tmp_path)
  check_results(tmp_path, reference)


def test_a_full_disk_keeps_what_is_done(
  trained_workdir, folder, reference, monkeypatch
):
  monkeypatch.setattr(predictor, 'PIECE_ITEMS', 8)
  with small_disks.small_disk() as disk:
    output = disk.mount(16) / 'output'
    for left in (0, 600_000):
      filler = disk.fill(left)
      with pytest.raises(Unwritable, match='No space left on device') as error:
        predict(trained_workdir, folder, output)
      names = [path.name for path in output.rglob('*')]
      assert not [name for name in names if name.endswith('.tmp')]
      assert ('finished items are kept' in str(error.value)) == bool(left)
      assert (unfinished.NAME in names) == bool(left)
      filler.unlink()
    predict(trained_workdir, folder, output)
    check_results(output, reference)


@pytest.mark.parametrize('kind', ['file', 'below', 'read-only', 'folder'])
def test_outputs_that_cannot_be(folder, tmp_path, kind, monkeypatch):
  """Found before the run is loaded, which takes seconds."""
  monkeypatch.setattr(predictor.Predictor, 'load', None)
  (tmp_path / 'file').write_text('')
  (tmp_path / 'dir/predictions.csv').mkdir(parents=True)
  output, words = {
    'file': (tmp_path / 'file', 'is a file, must be a folder'),
    'below': (tmp_path / 'file/a', 'lies below .*/file, which is a file'),
    'folder': (tmp_path / 'dir', 'holds a folder predictions.csv'),
    'read-only': (None, 'is read-only'),
  }[kind]
  with small_disks.small_disk() as disk:
    output = output or disk.mount(1, 'ro')
    with pytest.raises(InputError, match=f'--output=.*{words}'):
      predict_files.predict_files(None, tmp_path, str(folder), None, output)


def test_two_at_once(trained_workdir, folder, tmp_path):
  from fld_jax.files import atomic

  with atomic.locked(tmp_path, lambda: None):
    with pytest.raises(InputError, match='another prediction writes to'):
      predict(trained_workdir, folder, tmp_path)


def test_names_of_all_kinds(trained_workdir, tmp_path):
  names = ['=1+1.jpg', "'=2.jpg", '-a;b.jpg', 'a\nb.jpg', '日.jpg', '\t.jpg']
  names += ['a.png', 'a.png.jpg', 'b.png', 'b.png.jpg/c.jpg', 'caf\udce9.jpg']
  names += ['n' * 245 + '.jpg', 'é' * 125 + '.png', 'x\\xe9.jpg']
  root, output = tmp_path / 'photos', tmp_path / 'photos/output'
  for i, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    kind = 'PNG' if name.endswith('.png') else 'JPEG'
    Image.new('RGB', (20 + i, 30), (i, 9, 9)).save(root / name, kind)
  broken = ['=bad.jpg', 'bad\udce9.jpg']
  for name in broken:
    (root / name).write_text('x')
  for _ in range(2):  # and nothing of the first time is a photo
    found = predict(trained_workdir, root, output)
    assert found['num_items'] == len(names) + 2
    results = results_of(output)
    texts = [result['file_name'] for result in results]
    assert sorted(map(file_names.decoded, texts)) == sorted(names)
    with (output / 'predictions.csv').open(newline='') as file:
      cells = [line['image'] for line in csv.DictReader(file)]
    assert [file_names.from_cell(cell) for cell in cells] == texts
    with (output / 'failures.csv').open(newline='') as file:
      cells = [line['image'] for line in csv.DictReader(file)]
    failed = [file_names.decoded(file_names.from_cell(c)) for c in cells]
    assert failed == broken
    drawn = [p for p in (output / 'overlays').rglob('*') if p.is_file()]
    sheets = [p for p in drawn if p.name == 'contact_sheet.png']
    assert sheets == [output / 'overlays/contact_sheet.png']
    # Small photos are enlarged to 512 pixels.
    widths = sorted(Image.open(p).width for p in drawn if p not in sheets)
    sides = [(20 + i, max(20 + i, 30)) for i in range(len(names))]
    assert widths == [round(512 * w / longer) for w, longer in sides]


def test_overlays_have_names_of_their_own(tmp_path):
  rng = np.random.default_rng(0)
  pieces = ['a', 'b', '.png', '.jpg', '.JPG', '/', 'é' * 60, '\udce9']
  for _ in range(300):
    drawn_names = {
      name
      for name in map(''.join, rng.choice(pieces, (12, 5)).tolist())
      if '//' not in name and name.strip('/') == name
    }
    folders = {
      name[:i] for name in drawn_names for i, c in enumerate(name) if c == '/'
    }
    names = sorted(drawn_names - folders)
    paths = predict_files.overlay_names(names, tmp_path)
    texts = {str(path) for path in paths.values()}
    assert paths.keys() == set(names) and len(texts) == len(names)
    for path in paths.values():
      assert path.name.lower().endswith('.jpg')
      assert max(len(os.fsencode(part)) for part in path.parts) <= 255
      assert not any(str(parent) in texts for parent in path.parents)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_networks_that_give_no_numbers(
  trained_workdir, folder, tmp_path, monkeypatch, value
):
  from fld_jax.evaluation import evaluate

  plain = evaluate.to_predictions

  def spoilt(rows, setup):
    predictions = plain(rows, setup)
    final = list(predictions.estimates)[-1]
    which = np.isin(predictions.image_ids, (0, 2, 39))
    predictions.estimates[final][which, 0] = value
    return predictions

  monkeypatch.setattr(evaluate, 'to_predictions', spoilt)
  found = predict(trained_workdir, folder, tmp_path)
  bad = [name for name, why in found['failures'] if 'no numbers' in why]
  assert bad == ['00.jpg', '02.jpg', '39.jpg']
  results = results_of(tmp_path)
  assert len(results) == 32 - 3
