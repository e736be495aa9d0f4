"""A run is whole: it works elsewhere, and nothing in it reaches outside."""

import io
import json
import pathlib
import shutil

import coco_folders
import fuzz_runs
import numpy as np
import pytest
from PIL import Image

from fld_jax import experiment
from fld_jax.cascade.setup import resolve
from fld_jax.configs import pcloss, trained
from fld_jax.errors import InputError
from fld_jax.inference import export
from fld_jax.inference.predictor import Predictor
from fld_jax.report import report
from fld_jax.runtime import manifest

PHOTO = np.full((40, 60, 3), 128, np.uint8)


def states(folder: pathlib.Path) -> dict:
  """Path -> what tells that something was done to it, of all in a folder."""
  return {
    str(path): (path.lstat().st_mtime_ns, path.lstat().st_size)
    for path in [folder, *folder.rglob('*')]
  }


def documents() -> dict:
  """COCO files with declared pairs, parts and lines."""
  found = {split: coco_folders.document(split) for split in ('train', 'val')}
  for document in found.values():
    (category,) = document['categories']
    category['keypoints'] = ['a cup', 'b cup', 'strap', 'a hem', 'b hem']
    category['swaps'] = [['a cup', 'b cup'], ['a hem', 'b hem']]
    category['parts'] = {'inner': [['a cup', 'b cup'], ['strap']]}
    category['skeleton'] = [[1, 2], [4, 5]]
  return found


@pytest.fixture(scope='module')
def coco_run(tmp_path_factory):
  """A trained and evaluated run of one's own landmarks: (run, data, config)."""
  top = tmp_path_factory.mktemp('coco_run')
  coco_folders.write(top / 'data', documents())
  config = pcloss.get_config('dataset=coco_keypoints,size=tiny')
  config.batch_size = 4
  config.input.size = 32
  config.dataset.manual_dir = str(top / 'data')
  config.dataset.data_dir = str(top / 'records')
  config.dataset.splits.train = config.dataset.splits.tune = 'train'
  config.eval_splits = ('val',)
  config.model.trunk.width = 8
  config.model.channels = 8
  (stage,) = config.stages
  stage.train_epochs = stage.eval_epochs = 0.0
  stage.train_steps = stage.eval_steps = 2
  experiment.run(config, top / 'run', mode='train', splits=('val',))
  return top / 'run', top / 'data', config


@pytest.fixture
def elsewhere(coco_run, tmp_path):
  """A copy of the run, in a place where there is nothing else of it."""
  run, data, config = coco_run
  away = tmp_path / 'away'
  shutil.copytree(run, away)
  hidden = [data, run, pathlib.Path(config.dataset.data_dir)]
  for folder in hidden:
    folder.rename(folder.with_name(f'hidden {folder.name}'))
  yield away
  for folder in hidden:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f'hidden {folder.name}').rename(folder)


def test_a_run_predicts_exports_and_reports_on_an_empty_machine(
  elsewhere, coco_run, tmp_path
):
  before = states(elsewhere)
  predictor = Predictor.load(elsewhere)
  assert predictor.landmark_set.names == (
    *('a_cup', 'b_cup', 'strap', 'a_hem', 'b_hem'),
  )
  assert predictor.landmark_set.flip.tolist() == [1, 0, 2, 4, 3]
  assert predictor.landmark_set.skeleton == (
    ('a_cup', 'b_cup'),
    ('a_hem', 'b_hem'),
  )
  assert 'inner' in predictor.landmark_set.partitions
  (found,) = predictor([PHOTO])
  assert found.positions.shape == (5, 2)
  # Mirroring needs the pairs.
  Predictor.load(elsewhere, flip_test=True)([PHOTO])
  config = trained.get_config(str(elsewhere))
  export.export(config, elsewhere, tmp_path / 'exported', 'stablehlo')
  exported = json.loads((tmp_path / 'exported/manifest.json').read_text())
  assert exported['landmarks']['names'] == list(predictor.landmark_set.names)
  page = report.report([elsewhere], tmp_path / 'report', None).read_text()
  assert 'positions are shown on grey' in page
  assert states(elsewhere) == before
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    *('away', 'exported', 'report'),
  ]


def test_evaluate_prepares_nothing_where_only_the_run_says(elsewhere, tmp_path):
  coco_folders.write(tmp_path / 'data', documents())
  config = trained.get_config(str(elsewhere))
  config.dataset.manual_dir = str(tmp_path / 'data')
  with pytest.raises(InputError, match='config.dataset.data_dir: is .*FOLDER'):
    experiment.run(config, elsewhere, mode='evaluate', splits=('val',))
  assert not pathlib.Path(config.dataset.data_dir).exists()
  assert config.dataset.data_dir != str(tmp_path / 'records')
  config.dataset.data_dir = str(tmp_path / 'records')
  experiment.run(config, elsewhere, mode='evaluate', splits=('val',))


def test_a_run_of_a_version_without_landmarks_reads_those_of_the_data(
  coco_run, tmp_path
):
  run, data, _ = coco_run
  shutil.copytree(run, tmp_path / 'old')
  path = tmp_path / 'old/manifest.json'
  saved = json.loads(path.read_text())
  del saved['landmarks']
  path.write_text(json.dumps(saved))
  assert Predictor.load(tmp_path / 'old').landmark_set.names[0] == 'a_cup'


def test_training_does_not_go_on_with_other_landmarks(coco_run, tmp_path):
  """The records may be the same and what is known of the names not."""
  run, _, config = coco_run
  shutil.copytree(run, tmp_path / 'run')
  path = tmp_path / 'run/manifest.json'
  saved = json.loads(path.read_text())
  saved['landmarks']['swaps'] = [['a_cup', 'b_hem']]
  path.write_text(json.dumps(saved))
  with pytest.raises(InputError, match='landmarks.swaps: is .*a_cup.*b_hem'):
    experiment.run(config, tmp_path / 'run', mode='train', splits=('val',))
  with pytest.raises(InputError, match='landmarks.names: is .*another|own'):
    saved['landmarks'] = {
      **resolve(config).whole.to_dict(),
      'names': ['1', '2', '3', '4', '5'],
      **{'swaps': [], 'parts': {}, 'skeleton': []},
    }
    path.write_text(json.dumps(saved))
    experiment.run(config, tmp_path / 'run', mode='evaluate', splits=('val',))


@pytest.fixture
def victim(tmp_path):
  """Folders of a user's, which look like checkpoints to one who trusts."""
  folder = tmp_path / 'victim'
  for name in ('all/deleted/letter.txt', 'all/2019/photo.jpg', 'all/1/x'):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b'mine')
  (folder / 'all/2019/checksums.json').write_text('{"other": "sum"}')
  (folder / 'all/1/sums.json').write_text('{"other": "sum"}')
  (folder / 'stages').mkdir()
  shutil.copytree(folder / 'all', folder / 'stages/stage1/all')
  return folder


def attack_name(saved, victim):
  saved['config']['stages'][0]['name'] = '../../victim'
  saved['stages'] = {'../../victim': next(iter(saved['stages'].values()))}


def attack_absolute_name(saved, victim):
  saved['config']['stages'][0]['name'] = str(victim)
  saved['stages'] = {str(victim): next(iter(saved['stages'].values()))}


def attack_checkpoint(saved, victim):
  saved['config']['stages'][0]['checkpoint'] = str(victim)


def attack_checkpoint_of_no_run(saved, victim):
  saved['config']['stages'][0]['checkpoint'] = str(victim / 'stages/stage1')


def attack_missing_checkpoint(saved, victim):
  saved['config']['stages'][0]['checkpoint'] = str(victim / 'new/stages/one')


def attack_root(saved, victim):
  saved['config']['stages'][0]['checkpoint'] = '/'


def attack_networks(saved, victim):
  for entry in saved['stages'].values():
    entry['networks'] = ['../../../victim/all']


def attack_missing_networks(saved, victim):
  for entry in saved['stages'].values():
    entry['networks'] = ['../../../../new']


def attack_splits(saved, victim):
  saved['config']['eval_splits'] = ['../../victim']


def attack_data_dir(saved, victim):
  saved['config']['dataset']['data_dir'] = str(victim / 'new')


ATTACKS = [f for name, f in list(globals().items()) if name[:7] == 'attack_']


# A report reads only the evaluation, and of its config not the checkpoints.
PAIRS = [
  *(('predict', attack) for attack in ATTACKS),
  *(('evaluate', attack) for attack in ATTACKS),
  *(('export', attack) for attack in (attack_name, attack_checkpoint)),
  *(('report', attack) for attack in (attack_name, attack_splits)),
  ('report', attack_data_dir),
]


@pytest.mark.parametrize(
  ('mode', 'attack'), PAIRS, ids=lambda x: getattr(x, '__name__', x)
)
def test_nothing_in_a_strangers_run_reaches_outside(
  coco_run, tmp_path, victim, attack, mode
):
  run, _, _ = coco_run
  workdir = tmp_path / 'W'
  shutil.copytree(run, workdir)
  path = workdir / 'manifest.json'
  saved = json.loads(path.read_text())
  attack(saved, victim)
  path.write_text(json.dumps(saved))
  _tamper_evaluation(workdir / 'eval/val/evaluation.npz', saved['config'])
  before = states(tmp_path)
  try:
    if mode == 'predict':
      Predictor.load(workdir)
    elif mode == 'report':
      report.report([workdir], workdir / 'out', None)
    else:
      config = trained.get_config(str(workdir))
      if mode == 'export':
        export.export(config, workdir, workdir / 'out', 'stablehlo')
      else:
        splits = config.eval_splits
        experiment.run(config, workdir, mode='evaluate', splits=splits)
  except InputError as error:
    assert '\n' not in str(error).strip()
    if mode == 'evaluate':
      shutil.rmtree(workdir / 'eval')
  # Evaluation and report write into the run and where they are told.
  for kept in (before, after := states(tmp_path)):
    for name in [n for n in kept if pathlib.Path(n).is_relative_to(workdir)]:
      del kept[name]
    del kept[str(tmp_path)]
  assert after == before


def _tamper_evaluation(path: pathlib.Path, config: dict) -> None:
  with np.load(path) as file:
    arrays = dict(file)
  about = json.loads(str(arrays['about']))
  old, new = about['config']['stages'][0], config['stages'][0]
  for name in [name for name in arrays if name.endswith(f'/{old["name"]}')]:
    start = name.rpartition('/')[0]
    arrays[f'{start}/{new["name"]}'] = arrays.pop(name)
  about |= {'config': config, 'stages': [new['name']]}
  about['split'] = config['eval_splits'][0]
  arrays['about'] = np.array(json.dumps(about))
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  path.write_bytes(buffer.getvalue())


@pytest.mark.parametrize('place', ['eval', 'stages', 'stages/stage1/all'])
@pytest.mark.parametrize('mode', ['train', 'evaluate'])
def test_no_mode_writes_through_a_link(coco_run, tmp_path, place, mode):
  run, _, config = coco_run
  workdir, outside = tmp_path / 'W', tmp_path / 'outside'
  shutil.copytree(run, workdir)
  (stage,) = config.stages
  link = workdir / place.replace('stage1', stage.name)
  link.rename(outside)
  link.symlink_to(outside)
  before = states(outside)
  with pytest.raises(InputError, match='is a link to .*outside of the run'):
    experiment.run(config, workdir, mode=mode, splits=('val',))
  assert states(outside) == before


def test_a_stage_of_another_run_is_only_read(coco_run, tmp_path):
  """In training, too: its checkpoints may be of a run that goes on."""
  run, _, config = coco_run
  shutil.copytree(run, tmp_path / 'other')
  (stage,) = config.stages
  network = tmp_path / f'other/stages/{stage.name}/all'
  (network / 'deleted').mkdir()
  damaged = network / '1'
  shutil.copytree(network / '2', damaged)
  (damaged / 'metrics/metrics').write_text('{}')
  before = states(tmp_path / 'other')
  mine = config.copy_and_resolve_references()
  mine.stages[0].checkpoint = str(network.parent)
  experiment.run(mine, tmp_path / 'W', mode='train', splits=('val',))
  assert states(tmp_path / 'other') == before
  # It is copied, so that this run is whole, too.
  first = Predictor.load(tmp_path / 'other')([PHOTO])[0].positions
  shutil.rmtree(tmp_path / 'other')
  (tmp_path / 'W').rename(tmp_path / 'elsewhere')
  again = Predictor.load(tmp_path / 'elsewhere')([PHOTO])[0].positions
  np.testing.assert_array_equal(again, first)


@pytest.fixture(scope='module')
def damaged_kinds(tmp_path_factory):
  folder = tmp_path_factory.mktemp('fuzz')
  return folder, fuzz_runs.kinds(folder)


KINDS = (
  *('manifest of a cascade', 'manifest of one network', 'COCO annotations'),
  *('boxes in COCO form', 'boxes as COCO results', 'boxes in CSV'),
  *('evaluation.npz', 'metrics.json', 'figures of a checkpoint'),
)


@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('name', KINDS)
def test_damaged_files_end_in_a_line(damaged_kinds, name):
  """10,000 of each kind: python tests/helpers/fuzz_runs.py --count=10000."""
  folder, kinds = damaged_kinds
  assert kinds.keys() == {*KINDS}
  counts = fuzz_runs.run(kinds[name], 60, 7, folder)
  assert counts['refused'] > 3 and counts['read']


def test_photos_are_not_needed_to_load(elsewhere, tmp_path):
  """From a file too, and by a path that is relative to nothing of ours."""
  Image.fromarray(PHOTO).save(tmp_path / 'photo.png')
  (found,) = Predictor.load(str(elsewhere))([tmp_path / 'photo.png'])
  assert manifest.read_manifest(elsewhere)['landmarks'].names == found.names
