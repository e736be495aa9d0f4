"""`--mode=export`: files that find the same landmarks without fld_jax."""

import datetime
import hashlib
import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.export
import numpy as np
import onnxruntime
import pytest
import scipy.special
from PIL import Image
from places import SHARED
from random_networks import random_variables

from fld_jax import input_pipeline, landmark_sets, schema
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.cascade.stage import Stage, build_model
from fld_jax.configs import detector, fgn, pcloss, trained
from fld_jax.errors import InputError
from fld_jax.files import images
from fld_jax.inference import export, export_formats, export_templates
from fld_jax.inference.predictor import Predictor
from fld_jax.runtime.parallel import Parallel

REAL = SHARED / 'deepfashion'
FORMATS = ('stablehlo', 'onnx')
LOWER = ('float16', 'int8')
NUM_REAL = 10
# Runs in a process of its own, where an import of fld_jax fails.
PROGRAM = """
import json, sys
sys.modules['fld_jax'] = None
folder, items, output = sys.argv[1:]
sys.path.insert(0, folder)
import crop, cv2, load, numpy as np
read = lambda path: cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
cut = [crop.prepare(read(path), box) for path, box in json.load(open(items))]
crops, backs = map(np.stack, zip(*cut))
found = {}
for size in (1, 5):
  parts = [load.run(crops[i:i + size]) for i in range(0, len(crops), size)]
  out = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
  out['points'] = crop.transform(backs, out['landmarks'])
  found |= {f'{size}/{key}': value for key, value in out.items()}
np.savez(output, **found)
print(sorted({name.partition('.')[0] for name in sys.modules}))
"""


@pytest.fixture(scope='module')
def config(trained_workdir):
  return trained.get_config(str(trained_workdir))


@pytest.fixture(scope='module')
def folders(config, trained_workdir, tmp_path_factory):
  """Format -> the folder of the exported run."""
  place = tmp_path_factory.mktemp('exports')
  for format in FORMATS:
    lower = LOWER if format == 'onnx' else ()
    export.export(config, trained_workdir, place / format, format, lower)
  return {format: place / format for format in FORMATS}


@pytest.fixture(scope='module')
def records(synthetic_builder):
  return list(input_pipeline.Records(synthetic_builder, 'test'))


def real_items():
  """(path, box) of val images of DeepFashion."""
  lines = (REAL / 'Eval/list_eval_partition.txt').read_text().splitlines()[2:]
  val = [line.split()[0] for line in lines if line.endswith('val')][:NUM_REAL]
  lines = (REAL / 'Anno/list_bbox.txt').read_text().splitlines()[2:]
  boxes = {name: list(map(float, box)) for name, *box in map(str.split, lines)}
  return [(str(REAL / 'Img' / name), boxes[name]) for name in val]


@pytest.fixture(scope='module')
def items(records, tmp_path_factory):
  """(path, box): the test images as files, then real ones if there are any."""
  folder, items = tmp_path_factory.mktemp('images'), []
  for i, record in enumerate(records):
    path = folder / f'{i:02}.jpg'
    path.write_bytes(record['image'])
    items.append((str(path), record['box'].tolist()))
  return items + (real_items() if REAL.exists() else [])


def run_alone(*arguments, cwd):
  """The output of Python with nothing of the environment but JAX's platform."""
  done = subprocess.run(
    [sys.executable, *map(str, arguments)],
    env={'JAX_PLATFORMS': 'cpu'},
    cwd=cwd,
    capture_output=True,
    text=True,
  )
  assert not done.returncode, done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def found(folders, items, tmp_path_factory):
  """Format -> (outputs of a process without fld_jax, modules it imported)."""
  place, found = tmp_path_factory.mktemp('fresh'), {}
  (place / 'items.json').write_text(json.dumps(items))
  for format, folder in folders.items():
    output = place / f'{format}.npz'
    arguments = ('-I', '-c', PROGRAM, folder, place / 'items.json', output)
    modules = run_alone(*arguments, cwd=place)
    found[format] = dict(np.load(output)), modules
  return found


@pytest.fixture(scope='module')
def evaluated(trained_workdir, records):
  """(n, N, 3) keypoints of the records, as the evaluation wrote them."""
  path = trained_workdir / 'eval/test/predictions.json'
  keypoints = {
    result['file_name']: np.reshape(result['keypoints'], (-1, 3))
    for result in json.loads(path.read_text())
  }
  return np.stack([keypoints[record['id'].decode()] for record in records])


@pytest.mark.parametrize('size', export.BATCH_SIZES)
@pytest.mark.parametrize('format', FORMATS)
def test_finds_what_the_evaluation_did(
  found, evaluated, records, trained_workdir, format, size
):
  outputs, _ = found[format]
  outputs = {
    name: outputs[f'{size}/{name}'][: len(records)]
    for name in ('points', 'confidence', 'visibility', 'route')
  }
  np.testing.assert_allclose(
    outputs['points'], evaluated[:, :, :2], rtol=0, atol=1e-3
  )
  present = [record['visibility'] != schema.ABSENT for record in records]
  np.testing.assert_allclose(
    np.where(present, outputs['confidence'], 0), evaluated[:, :, 2], atol=1e-5
  )
  np.testing.assert_allclose(outputs['visibility'].sum(-1), 1, atol=1e-5)
  metrics = json.loads((trained_workdir / 'eval/test/metrics.json').read_text())
  passes = metrics['network_passes']
  counts = [passes['stage3/easy'], passes['stage3/hard']]
  assert min(counts) > 0, 'a route is not tested'
  assert np.bincount(outputs['route']).tolist() == counts


@pytest.mark.parametrize('size', export.BATCH_SIZES)
@pytest.mark.parametrize('format', FORMATS)
def test_real_images(found, trained_workdir, items, format, size):
  if not REAL.exists():
    pytest.skip('no DeepFashion in shared/data')
  paths, boxes = zip(*items[-NUM_REAL:], strict=True)
  predictor = Predictor.load(str(trained_workdir))
  np.testing.assert_allclose(
    found[format][0][f'{size}/points'][-NUM_REAL:],
    [item.positions for item in predictor(paths, boxes)],
    rtol=0,
    atol=1e-3,
  )


@pytest.mark.parametrize('format', FORMATS)
def test_needs_no_more_than_it_says(found, format):
  _, modules = found[format]
  for name in ('flax', 'orbax', 'tensorflow_datasets', 'tensorflow'):
    assert f"'{name}'" not in modules
  assert ("'jax'" in modules) == (format == 'stablehlo')


@pytest.mark.parametrize('format', FORMATS)
def test_the_loader_prints_image_pixels(
  folders, items, evaluated, format, tmp_path
):
  path, box = items[3]
  printed = run_alone(folders[format] / 'load.py', path, *box, cwd=tmp_path)
  lines = [line.split() for line in printed.splitlines()]
  assert [line[0] for line in lines] == list(landmark_sets.FASHION_8.names)
  points = np.array([line[1:3] for line in lines], float)
  np.testing.assert_allclose(points, evaluated[3][:, :2], atol=2e-3)


@pytest.mark.parametrize('format', FORMATS)
def test_the_manifest_tells_what_there_is(folders, found, config, format):
  folder, (outputs, _) = folders[format], found[format]
  models = [f'model.{format}']
  if format == 'onnx':
    models = [*(f'model.{name}.onnx' for name in LOWER), *models]
  names = ['crop.py', 'load.py', 'manifest.json', *models]
  assert sorted(path.name for path in folder.iterdir())[-len(names) :] == names
  manifest = json.loads((folder / 'manifest.json').read_text())
  contents = {name: (folder / name).read_bytes() for name in models}
  assert manifest['files'] == {
    name: {
      'sha256': hashlib.sha256(content).hexdigest(),
      'bytes': len(content),
    }
    for name, content in contents.items()
  }
  described = {
    f'5/{name}': (of['dtype'], of['shape'][1:])
    for name, of in manifest['outputs'].items()
  }
  assert described == {
    name: (str(value.dtype), list(value.shape[1:]))
    for name, value in outputs.items()
    if name.startswith('5/') and name != '5/points'
  }
  assert manifest['inputs']['image']['shape'] == ['B', 32, 32, 3]
  assert manifest['method']['routing']['mode'] == 'route'
  assert manifest['landmarks']['names'] == list(landmark_sets.FASHION_8.names)
  assert manifest['run']['checked_with'] == 'images of synthetic test'


def test_lower_precisions(folders, config):
  """The manifest says how far landmarks are off on the images it checks."""
  folder = folders['onnx']
  precisions = json.loads((folder / 'manifest.json').read_text())['precisions']
  assert list(precisions) == list(LOWER)
  crops, _ = export._crops(config, resolve(config))

  def landmarks(file):
    session = onnxruntime.InferenceSession(folder / file)
    return session.run(['landmarks'], {'image': crops})[0]

  for name, about in precisions.items():
    gap = landmarks(about['file']) - landmarks('model.onnx')
    gap = np.sqrt((gap**2).sum(-1))
    assert about['mean_pixels'] == pytest.approx(gap.mean(), rel=1e-4)
    assert about['max_pixels'] == pytest.approx(gap.max(), rel=1e-4)
    assert 0 < gap.mean() < {'float16': 0.05, 'int8': 1}[name]
    sizes = [(folder / x).stat().st_size for x in (about['file'], 'model.onnx')]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
  ('format', 'precisions', 'words'),
  [
    ('stablehlo', ('int8',), 'int8 needs --format=onnx'),
    ('onnx', ('int8', 'int4'), "has 'int4', valid are float16, int8"),
  ],
)
def test_precisions_that_there_are_not(
  config, trained_workdir, tmp_path, format, precisions, words
):
  with pytest.raises(InputError, match=words):
    export.export(config, trained_workdir, tmp_path / 'x', format, precisions)


def test_int8_needs_held_out_images(config, trained_workdir, tmp_path):
  config = config.copy_and_resolve_references()
  config.dataset.data_dir = str(tmp_path)
  with pytest.raises(InputError, match='which is not prepared: first --mode'):
    export.export(config, trained_workdir, tmp_path / 'x', 'onnx', ('int8',))


@pytest.mark.parametrize('mode', ['pad_square', 'bbox_wh'])
def test_crops_are_equal_to_the_pixel(
  folders, records, tiny_config, mode, tmp_path
):
  config = tiny_config()
  config.input.crop, config.input.margin, config.input.size = mode, 0.1, 57
  config.stages[0].input_size = 0
  path = tmp_path / f'crop_{mode}.py'
  path.write_text(export_templates.crop_module(config.input))
  assert 'fld_jax' not in path.read_text().partition('"""\n\nimport')[2]
  spec = importlib.util.spec_from_file_location(path.stem, path)
  crop = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(crop)
  example = input_pipeline.Example(resolve(config).pipeline, augment=False)
  rng = np.random.default_rng(0)
  for record in records:
    image = images.decode(record['image'])
    size = np.array(image.shape[1::-1])
    corners = rng.uniform(-0.2, 1.2, (2, 2)) * size
    box = np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)
    expected = example({**record, 'box': box}, rng)
    pixels, back = crop.prepare(image, box.tolist())
    np.testing.assert_array_equal(pixels, expected['image'])
    np.testing.assert_array_equal(back, expected['affine'])


@pytest.fixture
def crop(tiny_config, tmp_path):
  """The module crop.py of an export."""
  path = tmp_path / 'crop_of_export.py'
  path.write_text(export_templates.crop_module(tiny_config().input))
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def photos_of_all_kinds(folder):
  """Name -> path of files, good and bad ones, as users have them."""
  rng = np.random.default_rng(1)
  rgba = rng.integers(0, 256, (40, 30, 4), np.uint8)
  exif = Image.Exif()
  exif[0x0112] = 6
  plain = Image.fromarray(rgba[..., :3])
  Image.fromarray(rgba).save(folder / 'alpha.png')
  plain.save(folder / 'turned.jpg', exif=exif)
  plain.convert('CMYK').save(folder / 'cmyk.jpg')
  plain.convert('P').save(folder / 'palette.gif', transparency=3)
  Image.fromarray(rgba[..., 0].astype(np.uint16) * 257).save(folder / '16.png')
  whole = (folder / 'cmyk.jpg').read_bytes()
  (folder / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
  (folder / 'empty.jpg').write_bytes(b'')
  (folder / 'page.jpg').write_text('<html>')
  (folder / 'drawing.eps').write_text('%!PS-Adobe-3.0 EPSF-3.0\n')
  (folder / 'phone.heic').write_bytes(bytes(4) + b'ftypheic' + bytes(90))
  os.mkfifo(folder / 'pipe.jpg')
  (folder / 'folder.jpg').mkdir()
  return {path.name: path for path in sorted(folder.iterdir())}


def read_or_reason(read, path):
  """The pixels, or the sentence that says what is wrong."""
  try:
    return read(path).tolist()
  except Exception as error:
    assert type(error).__name__ == 'InputError', error
    return str(error)


def test_photos_are_read_as_predict_reads_them(crop, tmp_path):
  folder = tmp_path / 'photos'
  folder.mkdir()
  kinds = photos_of_all_kinds(folder)
  kinds['nothing.jpg'] = folder / 'nothing.jpg'
  found = {
    name: read_or_reason(crop.read, path) for name, path in kinds.items()
  }
  assert found == {
    name: read_or_reason(images.read, path) for name, path in kinds.items()
  }
  assert sum(isinstance(value, str) for value in found.values()) == 8
  # White shows through: no colour under a transparent part does.
  pixels = np.array(found['alpha.png'])
  alpha = np.asarray(Image.open(kinds['alpha.png']))[..., 3]
  assert (pixels[alpha == 0] == 255).all() and (alpha == 0).any()


def random_stages(config):
  """An untrained cascade."""
  stages = []
  for i, stage in enumerate(config.stages):
    model = build_model(config.model, stage, i, resolve(config).landmarks)
    names = ('easy', 'hard') if stage.branches else ('all',)
    networks = {
      name: random_variables(model, config.input.size, 10 * i + j, head=0.02)
      for j, name in enumerate(names)
    }
    for variables in networks.values():
      if 'pose' in variables['params']:  # keeps landmarks near the crop
        variables['params']['pose']['landmarks']['kernel'] *= 0.02
    errors = np.linspace(0, 1, max(stage.pseudo_label.num_clusters, 1))
    clusters = {'errors': errors.astype(np.float32)}
    stages.append(Stage(stage.name, model, networks, clusters, 0.5))
  return stages


def noise(config, count=10):
  """Crops."""
  shape = (count, config.input.size, config.input.size, 3)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def load(path):
  """The exported function, by its format's own library."""
  if path.suffix == '.onnx':
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return lambda crops: dict(
      zip(names, session.run(names, {'image': crops}), strict=True)
    )
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  call = jax.jit(exported.call)
  return lambda crops: jax.device_get(call(crops))


def predicted(stages, config, crops):
  """What `Cascade.predict` finds, in the units of the files by NumPy."""
  cascade = Cascade(
    stages, resolve(config), Parallel('shard_map', jax.devices()[:1])
  )
  ones = np.ones(len(crops), np.int32)
  rows = cascade.predict([{'image': crops, 'mask': ones, 'corrupt': 0 * ones}])
  last = list(rows['stages'].values())[-1]
  outputs = {'landmarks': (last['estimate'] + 0.5) * config.input.size}
  if 'visibility' in last:
    outputs['visibility'] = scipy.special.softmax(last['visibility'], axis=-1)
    outputs['confidence'] = outputs['visibility'][..., :2].sum(-1)
  if 'confidence' in last:  # the heatmaps' own
    outputs['confidence'] = last['confidence']
  return outputs


def check_export(stages, config, format, folder, expected):
  crops = noise(config)
  export.write_export(
    stages, config, resolve(config), crops, folder, format, {}
  )
  path = folder / f'model.{format}'
  if format == 'stablehlo':  # plain operations, for any accelerator
    module = jax.export.deserialize(bytearray(path.read_bytes())).mlir_module()
    assert 'stablehlo.convolution' in module
    assert 'optimization_barrier' not in module
  run = load(path)
  for size in export.BATCH_SIZES:
    parts = [run(crops[i : i + size]) for i in range(0, len(crops), size)]
    for name, value in expected.items():
      outputs = np.concatenate([part[name] for part in parts])
      np.testing.assert_allclose(
        outputs, value, rtol=0, atol=1e-3, err_msg=name
      )
  return parts


@pytest.mark.parametrize(
  ('format', 'model', 'decoder', 'flip'),
  [
    ('stablehlo', 'simple_baselines', 'dark', True),
    ('stablehlo', 'fpn', 'quarter', False),
    ('onnx', 'simple_baselines', 'dark', True),
    ('onnx', 'simple_baselines', 'soft_argmax', False),
    ('onnx', 'fpn', 'quarter', False),
    ('onnx', 'fashionnet,backbone=resnet18', 'quarter', False),
    ('onnx', 'fashionnet', 'quarter', True),
  ],
)
def test_networks(format, model, decoder, flip, tmp_path):
  config = pcloss.get_config(
    f'dataset=synthetic,size=tiny,model={model},pcloss=none'
  )
  check_network(config, format, decoder, flip, tmp_path / 'x')


@pytest.mark.parametrize('format', FORMATS)
def test_simcc(format, tmp_path):
  config = detector.get_config('head=simcc,size=small,pretrained=none')
  config.model.trunk.width = 16
  check_network(config, format, 'quarter', True, tmp_path / 'x')


@pytest.mark.parametrize('format', FORMATS)
def test_fgn(format, tmp_path):
  config = fgn.get_config('size=tiny,backbone=vgg16')
  config.model.trunk.blocks = ((1, 8),) * 4
  config.model.update(channels=8, state=4)
  check_network(config, format, 'dark', True, tmp_path / 'x')


def check_network(config, format, decoder, flip, folder):
  config.input.size = 64
  config.flip_test = flip
  config.heatmap.decoder = decoder
  if 'hidden' in config.model:
    config.model.hidden = 64
  config.heatmap.sigma = 0.5  # DARK smooths inside the map only
  stages = random_stages(config)
  expected = predicted(stages, config, noise(config))
  # Not the same for every image.
  assert expected['landmarks'].std(axis=0).mean() > 1e-2
  assert expected['visibility'].std(axis=0).mean() > 1e-2
  check_export(stages, config, format, folder, expected)


@pytest.mark.parametrize(
  ('format', 'mode'), [('stablehlo', 'two_branch'), ('onnx', 'average')]
)
def test_mean_of_branches(tiny_config, format, mode, tmp_path):
  config = tiny_config()
  config.routing.mode = mode
  stages = random_stages(config)
  expected = predicted(stages, config, noise(config))
  (part, *_) = check_export(stages, config, format, tmp_path / 'x', expected)
  assert 'route' not in part


@pytest.mark.parametrize('format', FORMATS)
def test_bfloat16_is_exported_in_float32(tiny_config, format, tmp_path):
  config = tiny_config(stages=1)
  config.model.dtype = 'bfloat16'
  stages = random_stages(config)
  half = predicted(stages, config, noise(config))
  config.model.dtype = 'float32'
  full = predicted(random_stages(config), config, noise(config))
  assert 1e-3 < np.abs(half['landmarks'] - full['landmarks']).max() < 1
  config.model.dtype = 'bfloat16'
  check_export(stages, config, format, tmp_path / 'x', full)


def test_a_wrong_file_is_not_written(tiny_config, tmp_path, monkeypatch):
  config = tiny_config(stages=1)
  stages = random_stages(config)
  convert, *rest = export_formats.FORMATS['stablehlo']
  wrong = lambda function, *arguments: convert(
    lambda image: {
      **function(image),
      'landmarks': function(image)['landmarks'] + 0.5,
    },
    *arguments,
  )
  monkeypatch.setitem(export_formats.FORMATS, 'stablehlo', (wrong, *rest))
  with pytest.raises(RuntimeError, match="of 1, 'landmarks' differs by 0.5"):
    export.write_export(
      stages,
      config,
      resolve(config),
      noise(config),
      tmp_path / 'x',
      'stablehlo',
      {},
    )
  assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole_or_not_at_all(
  tiny_config, tmp_path, monkeypatch
):
  config = tiny_config(stages=1)

  def fail(format):
    raise KeyboardInterrupt

  monkeypatch.setattr(export.export_templates, 'loader', fail)
  with pytest.raises(KeyboardInterrupt):
    export.write_export(
      random_stages(config),
      config,
      resolve(config),
      noise(config),
      tmp_path / 'x',
      'stablehlo',
      {},
    )
  assert not list(tmp_path.iterdir())


def test_garments_are_there_without_the_data(config):
  config = config.copy_and_resolve_references()
  config.dataset.name, config.dataset.manual_dir = 'deepfashion', '/nowhere'
  crops, source = export._crops(config, resolve(config))
  assert source == 'rendered garments'
  assert (
    crops.shape == (export.NUM_CHECK_IMAGES, 32, 32, 3) and crops.std() > 10
  )


def test_bad_outputs(config, trained_workdir, tmp_path):
  (tmp_path / 'file').write_text('x')
  (tmp_path / 'full').mkdir()
  (tmp_path / 'full/x').write_text('x')
  for name in ('file', 'full'):
    with pytest.raises(InputError, match=f'--output is .*{name}, .* already'):
      export.export(config, trained_workdir, tmp_path / name, 'stablehlo')
  with pytest.raises(InputError, match="'tflite', .* stablehlo, onnx"):
    export.export(config, trained_workdir, tmp_path / 'x', 'tflite')
  with pytest.raises(InputError, match="no finished stage 'stage1'"):
    export.export(config, tmp_path / 'none', tmp_path / 'x', 'stablehlo')
  assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'full']


def test_large_networks(tiny_config, tmp_path, monkeypatch):
  for module in (export, export_formats):
    monkeypatch.setattr(module, 'LIMIT', 2**17)
  config = tiny_config(stages=1)
  config.model.hidden = 256
  stages = random_stages(config)
  with pytest.raises(InputError, match='GiB, .*: take --format=onnx'):
    check_export(stages, config, 'stablehlo', tmp_path / 'x', {})
  expected = predicted(stages, config, noise(config))
  check_export(stages, config, 'onnx', tmp_path / 'x', expected)
  assert (tmp_path / 'x/model.onnx').stat().st_size < 2**17
  manifest = json.loads((tmp_path / 'x/manifest.json').read_text())
  assert list(manifest['files']) == ['model.onnx', 'model.onnx.data']


@pytest.mark.parametrize('package', ['jax2onnx', 'onnxruntime'])
def test_missing_extra(config, trained_workdir, tmp_path, monkeypatch, package):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(InputError, match=rf"needs {package}, .*fld_jax\[onnx\]'"):
    export.export(config, trained_workdir, tmp_path / 'x', 'onnx')


def test_command_line(trained_workdir, tmp_path):
  output = tmp_path / 'x'
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=export']
  command += [f'--workdir={trained_workdir}', f'--output={output}']
  first, second = (
    subprocess.run(command, capture_output=True, text=True) for _ in range(2)
  )
  assert first.returncode == 0, first.stderr
  assert f'Model: {output}/model.stablehlo' in first.stdout
  assert (second.returncode, second.stderr.count('\n')) == (2, 1)
  assert second.stderr.startswith(f'error: --output is {output}')


def test_manifest_says_until_when_jax_reads_the_file(folders):
  for format, folder in folders.items():
    manifest = json.loads((folder / 'manifest.json').read_text())
    day = datetime.date.fromisoformat(manifest['exported'])
    assert abs(day - datetime.datetime.now(datetime.UTC).date()).days <= 1
    versions = manifest['versions']
    assert ('jax_guarantee_until' in versions) == (format == 'stablehlo')
  stablehlo = folders['stablehlo']
  versions = json.loads((stablehlo / 'manifest.json').read_text())['versions']
  until = datetime.date.fromisoformat(versions['jax_guarantee_until'])
  assert 181 <= (until - day).days <= 184
  assert jax.__version__ in versions['words']
  file = bytearray((stablehlo / 'model.stablehlo').read_bytes())
  exported = jax.export.deserialize(file)
  assert exported.calling_convention_version == versions['calling_convention']


@pytest.mark.parametrize(
  ('day', 'later'),
  [
    ('2026-01-15', '2026-07-15'),
    ('2026-08-31', '2027-02-28'),
    ('2027-08-30', '2028-02-29'),
    ('2026-12-01', '2027-06-01'),
  ],
)
def test_six_months_later(day, later):
  found = export_formats._months_later(datetime.date.fromisoformat(day), 6)
  assert found == datetime.date.fromisoformat(later)
