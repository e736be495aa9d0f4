"""The authors' Caffe weights as a run, against OpenCV 4's reader of Caffe."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import caffe_release
import jax
import numpy as np
import pytest
import torchvision_weights
from safetensors.numpy import save_file

from fld_jax import experiment, input_pipeline
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import resolve
from fld_jax.configs import trained
from fld_jax.datasets.catalog import landmark_set, selected_type
from fld_jax.datasets.prepare import prepared_builder
from fld_jax.errors import InputError
from fld_jax.ops import heatmaps
from fld_jax.pretrained import caffe_files, convert
from fld_jax.runtime import manifest
from fld_jax.runtime.parallel import Parallel

SLIM = {'slim': 16, 'hidden': 64}
SMALL = {'slim': 16, 'hidden': 32, 'size': 32}
OPENCV = pathlib.Path('~/.cache/fld_jax/opencv4').expanduser()

# The release's own inference (its demo, docs/methods.md 1.3 and 1.4) in OpenCV.
PROGRAM = """
import sys
import cv2, numpy as np
folder, texts, crops, out, n = *sys.argv[1:5], int(sys.argv[5])
nets = {
  name: cv2.dnn.readNetFromCaffe(f'{texts}/{text}.prototxt',
                                 f'{folder}/{name}.caffemodel')
  for name, text in (('stage1', 'stage1'), ('stage2', 'cascade'),
                     ('stage3_easy', 'cascade'), ('stage3_hard', 'cascade'))
}
images = np.load(crops)[..., ::-1].astype(np.float32)  # BGR
images = (images - np.float32([102.9801, 115.9465, 122.7717]))
images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
found = {}
for image in images:
  def run(name, estimate=None):
    net = nets[name]
    net.setInput(image[None], 'data')
    if estimate is not None:
      net.setInput(estimate.reshape(1, 1, 1, 2 * n), 'prediction')
    out = net.forward('fc8').ravel()
    return out[:2 * n], out[2 * n:].reshape(n, 3)
  l1, v1 = run('stage1')
  o2, v2 = run('stage2', l1)
  l2 = l1 - o2 / 5
  (oe, ve), (oh, vh) = run('stage3_easy', l2), run('stage3_hard', l2)
  l3 = l2 - (oe / 5 + oh / 5) / 2
  for stage, l, v in (('stage1', l1, v1), ('stage2', l2, v2),
                      ('stage3', l3, ve + vh)):
    found.setdefault(stage + '_estimate', []).append(l.reshape(n, 2))
    found.setdefault(stage + '_visibility', []).append(v)
np.savez(out, **{k: np.stack(v) for k, v in found.items()})
"""


@pytest.fixture(scope='session')
def opencv4():
  """Runs a program with OpenCV 4, which reads Caffe's files; 5 does not."""
  if not (OPENCV / 'cv2').is_dir():
    install = [sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps']
    OPENCV.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tempfile.mkdtemp(dir=OPENCV.parent)
    place = ['--target', unfinished, 'opencv-python-headless==4.*']
    try:
      done = subprocess.run(
        [*install, *place], capture_output=True, text=True, timeout=120
      )
    except subprocess.TimeoutExpired:
      pytest.skip('pip did not install OpenCV 4 in two minutes')
    if done.returncode:
      pytest.skip(f'pip cannot install OpenCV 4: {done.stderr.strip()[-300:]}')
    os.replace(unfinished, OPENCV)

  def run(program, *arguments):
    subprocess.run(
      [sys.executable, '-c', program, *map(str, arguments)],
      env={**os.environ, 'PYTHONPATH': str(OPENCV)},
      check=True,
    )

  return run


@pytest.fixture(scope='session')
def release(tmp_path_factory):
  """make(kind, **widths) -> a folder of the release and its run."""
  folders = {}

  def make(kind, **widths):
    key = (kind, *widths.items())
    if key not in folders:
      folder = tmp_path_factory.mktemp(kind)
      caffe_release.write(folder / 'FLD', kind, **widths)
      convert.convert(folder / 'FLD', folder / 'W')
      folders[key] = folder / 'FLD', folder / 'W'
    return folders[key]

  return make


def predict(workdir, tiny_config):
  """(crops, rows) of the run's networks on all synthetic test images."""
  config = trained.get_config(str(workdir))
  stages, history = store.load_cascade(config, resolve(config), workdir)
  assert history == []
  kind = config.dataset.clothes_type
  config.dataset.update(tiny_config().dataset)
  config.dataset.clothes_type, config.batch_size = kind, 8
  records = input_pipeline.Records(
    prepared_builder(config.dataset),
    'test',
    range(16),  # of any type: more images
    selected_type(config.dataset),
  )
  batches = list(input_pipeline.eval_batches(records, resolve(config).pipeline))
  rows = Cascade(stages, resolve(config), Parallel('shard_map')).predict(
    batches
  )
  return np.concatenate([batch['image'] for batch in batches]), rows


@pytest.mark.parametrize('kind', caffe_release.TYPES)
def test_as_opencv_4(kind, release, opencv4, tiny_config, tmp_path):
  folder, workdir = release(kind, **SLIM)
  crops, rows = predict(workdir, tiny_config)
  check_as_opencv_4(kind, folder, crops, rows, opencv4, tmp_path, SLIM)


def check_as_opencv_4(kind, folder, crops, rows, opencv4, place, widths):
  """Compares landmarks and visibility of all stages; the largest difference."""
  np.save(place / 'crops.npy', crops)
  n = caffe_release.TYPES[kind]
  # OpenCV does not read layers whose weights are not there, as Caffe does.
  for name, cascade in (('stage1', False), ('cascade', True)):
    text = caffe_release.prototxt(n, cascade, labels=False, **widths)
    (place / f'{name}.prototxt').write_text(text)
  out = place / 'out.npz'
  opencv4(PROGRAM, folder, place, place / 'crops.npy', out, n)
  expected, largest = np.load(out), {}
  for name, found in rows['stages'].items():
    for output in ('estimate', 'visibility'):
      values = expected[f'{name}_{output}']
      assert values.std(axis=0).min() > 1e-3  # of the images, not of biases
      np.testing.assert_allclose(found[output], values, atol=1e-4, rtol=0)
      largest[name, output] = np.abs(found[output] - values).max()
  return largest


def test_what_a_run_says_of_itself(release):
  """What is in the run: its inputs, its landmarks and its networks."""
  folder, workdir = release('lower', **SMALL)
  config = trained.get_config(str(workdir))
  assert landmark_set(config.dataset).names == (
    *('waist_left', 'waist_right', 'hem_left', 'hem_right'),
  )
  assert config.input.crop == 'pad_square' and config.input.margin == 0
  assert config.input.mean == (122.7717, 115.9465, 102.9801)  # RGB
  assert config.routing.mode == 'average' and config.offset_scale == 5
  stages, _ = store.load_cascade(config, resolve(config), workdir)
  assert [sorted(s.networks) for s in stages] == [
    *(['all'], ['all'], ['easy', 'hard']),
  ]
  # Which is easy and which is hard makes no difference to their average.
  for name, variables in stages[2].networks.items():
    arrays = caffe_files.read_weights(folder / f'stage3_{name}.caffemodel')
    np.testing.assert_array_equal(
      variables['params']['fc7']['bias'], arrays['fc7_pre[1]']
    )


def test_the_program_evaluates_a_converted_run(release, tiny_config, capsys):
  _, workdir = release('lower', **SMALL)
  config = trained.get_config(str(workdir))
  config.dataset.update(tiny_config().dataset)
  config.dataset.clothes_type, config.batch_size = 'lower', 8
  metrics = experiment.run(config, workdir, mode='evaluate', splits=('train',))[
    'train'
  ]
  assert set(metrics['ne']['per_landmark']) == {
    *('waist_left', 'waist_right', 'hem_left', 'hem_right'),
  }
  passes = metrics['network_passes']
  assert passes['stage3/easy'] == passes['stage3/hard'] > 0
  capsys.readouterr()
  config.dataset.clothes_type = 'upper'
  with pytest.raises(InputError, match="clothes_type was 'lower' and now is"):
    experiment.run(config, workdir, mode='evaluate', splits=('test',))
  config.dataset.clothes_type = 'lower'
  with pytest.raises(InputError, match='manifest.json is of another config'):
    experiment.run(tiny_config(), workdir, mode='train', splits=('test',))


def test_old_files_are_read_alike(release, tmp_path):
  """V1 layers and four-dimensional blobs, as Caffe wrote before 2015."""
  folder, _ = release('lower', **SMALL)
  caffe_release.write(tmp_path / 'FLD', 'lower', old=True, **SMALL)
  for name in caffe_release.FILES:
    new = caffe_files.read_weights(folder / name)
    old = caffe_files.read_weights(tmp_path / 'FLD' / name)
    assert old['fc6[0]'].shape == (1, 1, *new['fc6[0]'].shape)
    assert old['fc6[1]'].shape == (1, 1, 1, 32)
    for key, array in new.items():
      np.testing.assert_array_equal(old[key].reshape(array.shape), array)
  types = {'InnerProduct': 'INNER_PRODUCT', 'Input': 'Input'}
  for name in ('stage1.prototxt', 'cascade.prototxt'):
    text = (folder / name).read_text()
    data, *layers = text.split('layer {')
    for layer in layers:
      (kind,) = re.findall('type: "(.*)"', layer)
      if kind == 'Input':
        (top,) = re.findall('top: "(.*)"', layer)
        dims = re.findall(r'dim: (\d+)', layer)
        data += f'input: "{top}"\n'
        data += ''.join(f'input_dim: {d}\n' for d in dims)
      else:
        kind_then = types.get(kind, kind.upper())
        layer = layer.replace(f'"{kind}"', kind_then)
        data += 'layers {' + layer
    (tmp_path / 'FLD' / name).write_text(data)
    new = caffe_files.read_net(folder / name)
    assert caffe_files.read_net(tmp_path / 'FLD' / name) == new
  convert.convert(tmp_path / 'FLD', tmp_path / 'W')
  assert_same_run(release('lower', **SMALL)[1], tmp_path / 'W')


def assert_same_run(one, other):
  def load(workdir):
    config = trained.get_config(str(workdir))
    return store.load_cascade(config, resolve(config), workdir)[0]

  for a, b in zip(load(one), load(other), strict=True):
    jax.tree.map(np.testing.assert_array_equal, a.networks, b.networks)


def test_double_precision_is_read(tmp_path):
  array = np.float64([[1.5, -2], [0, 1e-3]])
  shape = caffe_release.field(7, caffe_release.field(1, b'\x02\x02'))
  blob = shape + caffe_release.field(8, array.astype('<f8').tobytes())
  layer = caffe_release.field(1, b'fc') + caffe_release.field(7, blob)
  path = tmp_path / 'x.caffemodel'
  path.write_bytes(caffe_release.field(100, layer))
  (found,) = caffe_files.read_weights(path).values()
  np.testing.assert_array_equal(found, array.astype(np.float32))


def test_a_killed_conversion_leaves_nothing_and_can_be_done_again(
  release, tmp_path, monkeypatch
):
  folder, workdir = release('lower', **SMALL)
  output = tmp_path / 'W'
  with monkeypatch.context() as patch:
    patch.setattr(manifest, 'write_manifest', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      convert.convert(folder, output)
  assert not any(tmp_path.iterdir())
  # A process that is killed cannot clear away what it began.
  (tmp_path / '.W.1234.tmp/stages').mkdir(parents=True)
  convert.convert(folder, output)
  assert list(tmp_path.iterdir()) == [output]
  assert_same_run(workdir, output)
  before = {p: p.stat().st_mtime_ns for p in output.rglob('*')}
  with pytest.raises(InputError, match='W: is there already, must be a new'):
    convert.convert(folder, output)
  assert before == {p: p.stat().st_mtime_ns for p in output.rglob('*')}


def edited(name, old, new, count=1):
  """A change of a text file."""

  def change(folder):
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, count))

  return change


def reordered(name, change_weights):
  """A change of a .caffemodel's list of layers."""

  def change(folder):
    index = caffe_release.FILES.index(name)
    layers = caffe_release.shapes(
      4, index > 0, caffe_release.LABELS['lower'][index], **SMALL
    )
    weights = change_weights(caffe_release.random_weights(layers, index))
    (folder / name).write_bytes(caffe_release.caffemodel(weights))

  return change


def cut(name, share):
  def change(folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])

  return change


def copied(name, other):
  return lambda folder: shutil.copy(folder / other, folder / name)


def bad(layers, name, scale):
  """The layers, of which one has its weights times `scale`."""
  return [
    (n, w * np.float32(scale) if n == name else w, b) for n, w, b in layers
  ]


S1, C = 'stage1.prototxt', 'cascade.prototxt'
W1, W2, EASY = caffe_release.FILES[:3]
WRONG = {
  # --- weights
  'cut off': (cut(W1, 0.5), f'{W1}: is no whole .caffemodel: it is cut off'),
  'last byte': (cut(EASY, 0.99999), f'{EASY}: is no whole .caffemodel'),
  'empty': (cut(W2, 0), f'{W2}: holds no weights'),
  'text': (copied(W2, S1), f'{W2}: is no whole .caffemodel'),
  'other stage': (
    copied(W2, W1),
    rf'{W2}, fc7_pre\[0\]: is missing, must be there with shape \(32, 36\)',
  ),
  'later stage': (copied(W1, EASY), rf'{W1}, fc7\[0\]: is missing'),
  'layer missing': (
    reordered(W1, lambda layers: layers[:3] + layers[4:]),
    rf'{W1}, conv2_2\[0\]: is missing, must be there with shape '
    r'\(8, 8, 3, 3\); the file has conv1_1\[0\]',
  ),
  'layer too many': (
    reordered(W1, lambda layers: [*layers, ('fc9', *layers[-1][1:])]),
    rf'{W1}, fc9\[0\]: is of shape \(3, 32\), and there is no such thing',
  ),
  'blob too many': (
    reordered(W1, lambda layers: [(*layers[0], layers[0][2]), *layers[1:]]),
    rf'{W1}, conv1_1\[2\]: is of shape \(4,\), and there is no such',
  ),
  'layer twice': (
    reordered(W1, lambda layers: [layers[0], *layers]),
    f'{W1}, layer conv1_1: stands twice',
  ),
  'without bias': (
    reordered(W1, lambda layers: [*layers[:-1], layers[-1][:2]]),
    rf'{W1}, fc8_visibility_4\[1\]: is missing, must be there with shape '
    r'\(3,\)',
  ),
  'NaN': (
    reordered(W1, lambda layers: bad(layers, 'fc7', np.nan)),
    rf'{W1}, fc7\[0\]: has NaN',
  ),
  'missing file': (
    lambda folder: (folder / EASY).unlink(),
    f'{EASY}: cannot be read .No such file',
  ),
  # --- networks
  'text cut off': (cut(S1, 0.5), f'{S1}: is no network of Caffe as text'),
  'binary text': (copied(S1, W1), f'{S1}: is no network of Caffe as text'),
  'missing text': (
    lambda folder: (folder / C).unlink(),
    f'{C}: cannot be read',
  ),
  'stride': (
    edited(S1, 'pad: 1\n', 'pad: 1\n stride: 2\n'),
    f'{S1}, layer conv1_1: is Convolution 4, 3x3, pad 1, stride 2 of data; '
    'must be Convolution 4, 3x3, pad 1 of data',
  ),
  'padding': (
    edited(C, 'pad: 1\n', 'pad_h: 1 pad_w: 0\n'),
    f'{C}, layer conv1_1: is Convolution 4, 3x3, pad 1x0 of data',
  ),
  'dilation': (
    edited(S1, 'pad: 1\n', 'pad: 1 dilation: 2\n'),
    f'{S1}, layer conv1_1: is Convolution 4, 3x3, pad 1, dilation 2 of',
  ),
  'group': (
    edited(S1, 'pad: 1\n', 'pad: 1 group: 3\n'),
    f'{S1}, layer conv1_1: is Convolution 4, 3x3, pad 1, group 3 of',
  ),
  'no bias': (
    edited(S1, 'pad: 1\n', 'pad: 1 bias_term: false\n'),
    f'{S1}, layer conv1_1: is Convolution 4, 3x3, pad 1, without bias of',
  ),
  'pooling': (
    edited(S1, 'pool: MAX', 'pool: AVE'),
    rf'{S1}, layer conv2_1: is Convolution 8, 3x3, pad 1 of average_pool',
  ),
  'pool size': (
    edited(S1, 'kernel_size: 2', 'kernel_size: 3'),
    rf'{S1}, layer conv2_1: is .* of max_pool\[3x3 stride 2x2\]',
  ),
  'slope': (
    edited(S1, 'type: "ReLU"', 'type: "ReLU" relu_param{negative_slope: 0.1}'),
    rf'{S1}, layer conv1_2: is .* of relu\[slope 0.1\]\(conv1_1\)',
  ),
  'no ReLU': (
    edited(S1, 'type: "ReLU"', 'type: "Dropout"'),
    rf'{S1}, layer conv1_2: is .* of conv1_1; must be .* of relu\(conv1_1\)',
  ),
  'other input': (
    edited(
      C,
      'bottom: "fc6_pre"\n  top: "fc7_pre"',
      'bottom: "fc6"\n  top: "fc7_pre"',
    ),
    f'{C}, layer fc7_pre: is InnerProduct 32 of fc6; must be InnerProduct 32 '
    r'of relu\(concat\(fc6, fc_pre\)\)',
  ),
  'concat order': (
    edited(
      C,
      '  bottom: "fc6"\n  bottom: "fc_pre"\n',
      '  bottom: "fc_pre"\n  bottom: "fc6"\n',
    ),
    rf'{C}, layer fc7_pre: is .*concat\(fc_pre, fc6\)',
  ),
  'output order': (
    edited(
      S1,
      'bottom: "fc8_visibility_1"\n  bottom: "fc8_visibility_2"',
      'bottom: "fc8_visibility_2"\n  bottom: "fc8_visibility_1"',
    ),
    rf'{S1}, outputs: are concat\(fc8_landmarks, fc8_visibility_2, ',
  ),
  'axis': (
    edited(S1, 'num_output:8', 'num_output:8 axis: 2'),
    f'{S1}, layer fc8_landmarks: is InnerProduct 8, axis 2 of',
  ),
  'visibility': (
    edited(S1, 'num_output:3\n', 'num_output:2\n'),
    f'{S1}, layer fc8_visibility_1: is InnerProduct 2 of .*; must be '
    'InnerProduct 3',
  ),
  'width': (
    edited(C, 'num_output: 4\n', 'num_output: 5\n', 2),
    f'{C}: has blocks .* must have .* as stage1.prototxt',
  ),
  'unlike the weights': (
    lambda folder: [
      edited(S1, 'num_output:32', 'num_output:64', 2)(folder),
      edited(C, 'num_output:32', 'num_output:64', 2)(folder),
      edited(C, 'num_output:4\n', 'num_output:8\n')(folder),
    ],
    rf'{W1}, fc6\[0\]: has shape \(32, 32\), must have \(64, 32\)',
  ),
  'unknown type': (
    edited(S1, 'type: "ReLU"', 'type: "PReLU"'),
    f"{S1}, layer relu1_1: is of the type 'PReLU', valid are Input, Concat",
  ),
  'undefined input': (
    edited(S1, 'bottom: "fc7"', 'bottom: "fc77"'),
    f"{S1}, layer .*: takes 'fc77', which no layer before it makes",
  ),
  'five landmarks': (
    edited(S1, 'num_output:8', 'num_output:10'),
    f'{S1}, layer fc8_visibility_5: is missing; must be InnerProduct 3',
  ),
  'image': (
    edited(S1, 'dim: 32 dim: 32', 'dim: 32 dim: 64'),
    f'{S1}, input data: has shape .1, 3, 32, 64., must have',
  ),
  'no size': (
    edited(S1, 'dim: 32 dim: 32', 'dim: 0 dim: 0'),
    f'{S1}, input data: has shape .1, 3, 0, 0., must have',
  ),
  'no shape': (
    edited(S1, 'dim: 1 dim: 3 dim: 32 dim: 32', ''),
    f'{S1}, input data: has shape .., must have',
  ),
  'no width': (
    edited(S1, 'num_output:32', ''),
    f'{S1}, layer fc6, num_output: is missing',
  ),
  'huge': (
    edited(S1, 'num_output:32', 'num_output: 4294967295'),
    f'{S1}, layer fc7: is InnerProduct 32 of .*; must be InnerProduct 4294967',
  ),
  'no text': (
    cut(S1, 0),
    f'{S1}, layer conv1_1: is missing; the file has nothing',
  ),
  'stage 1 as cascade': (
    copied(C, S1),
    f'{C}, layer (fc7|fc_pre)',
  ),
}


@pytest.mark.parametrize('case', WRONG)
def test_wrong_files_are_refused(case, release, tmp_path):
  change, message = WRONG[case]
  folder = tmp_path / 'FLD'
  shutil.copytree(release('lower', **SMALL)[0], folder)
  change(folder)
  with pytest.raises(InputError, match=message) as caught:
    convert.convert(folder, tmp_path / 'W')
  assert str(caught.value).startswith(str(folder))
  assert list(tmp_path.iterdir()) == [folder]


def test_damaged_bytes_never_end_in_a_traceback(release, tmp_path):
  folder, _ = release('lower', **SMALL)
  rng = np.random.default_rng(0)
  readers = {W1: caffe_files.read_weights, C: caffe_files.read_net}
  for name, read in readers.items():
    content, seen = (folder / name).read_bytes(), 0
    path = tmp_path / name
    for i in range(200):
      damaged = bytearray(content)
      # Of weights, most bytes are numbers: aim at what stands around them.
      reach = 400 if i % 2 else len(content)
      for place in rng.integers(0, reach, 4):
        damaged[place] = rng.integers(256)
      path.write_bytes(damaged)
      try:
        read(path)
      except InputError as error:
        seen += 1
        assert str(error).startswith(str(path))
        assert str(error).isprintable()
    assert seen > 20


def test_weights_of_another_type_are_refused(release, tmp_path):
  folder = tmp_path / 'FLD'
  shutil.copytree(release('lower', **SMALL)[0], folder)
  upper = caffe_release.write(tmp_path / 'upper', 'upper', **SMALL)
  shutil.copy(upper / W2, folder / W2)
  message = (
    rf'{W2}, fc8_landmarks\[0\]: has shape \(12, 32\), must have \(8, 32\)'
  )
  with pytest.raises(InputError, match=message):
    convert.convert(folder, tmp_path / 'W')


def test_places_that_are_wrong(release, tmp_path):
  folder, _ = release('lower', **SMALL)
  with pytest.raises(InputError, match='nope: there is no such file or folder'):
    convert.convert(tmp_path / 'nope', tmp_path / 'W')
  file = tmp_path / 'file'
  file.write_text('')
  with pytest.raises(InputError, match='file: is there already'):
    convert.convert(folder, file)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(InputError, match='empty/stage1.prototxt: cannot be read'):
    convert.convert(tmp_path / 'empty', tmp_path / 'W')
  convert.convert(folder, tmp_path / 'empty')  # an empty folder will do


# --- mmpose ------------------------------------------------------------------


def mmpose(version=1, n=6, depth=18, deconvs=3):
  """mmpose's names and shapes of a narrow SimpleBaselines."""
  layouts = {18: ((2, 2, 2, 2), False), 50: ((3, 4, 6, 3), True)}
  found = torchvision_weights.resnet(*layouts[depth], 8, 'backbone.')
  found = {k: v for k, v in found.items() if not k.startswith('backbone.fc')}
  head, before = ('keypoint_head', 'head')[version], 64 if depth == 18 else 256
  for i in range(deconvs):
    name = f'{head}.deconv_layers.{3 * i}.weight'
    found[name] = torchvision_weights.draw(before, 16, 4, 4)
    for key, value in torchvision_weights.bn(16).items():
      found[f'{head}.deconv_layers.{3 * i + 1}.{key}'] = value
    before = 16
  found[f'{head}.final_layer.weight'] = torchvision_weights.draw(n, 16, 1, 1)
  found[f'{head}.final_layer.bias'] = torchvision_weights.draw(n)
  return found


@pytest.mark.parametrize('version', [0, 1])
@pytest.mark.parametrize('kind', caffe_release.TYPES)
def test_mmpose(kind, version, tmp_path, capsys):
  n = caffe_release.TYPES[kind]
  arrays = mmpose(version, n)
  save_file(arrays, tmp_path / 'm.safetensors')
  convert.convert(tmp_path / 'm.safetensors', tmp_path / 'W')
  printed = capsys.readouterr().out
  assert f"SimpleBaselines for '{kind}', {n} landmarks, ResNet-18" in printed
  config = trained.get_config(str(tmp_path / 'W'))
  assert config.dataset.name == 'deepfashion'
  assert config.dataset.clothes_type == kind
  assert config.input.mean == (123.675, 116.28, 103.53)
  assert config.input.std == (58.395, 57.12, 57.375)
  assert config.input.margin == 0.125 and config.input.crop == 'pad_square'
  assert config.heatmap.sigma == 2 and config.heatmap.amplitude == 1
  ((only,), _) = store.load_cascade(config, resolve(config), tmp_path / 'W')
  params = only.networks['all']['params']
  head = ('keypoint_head', 'head')[version]
  weight = arrays[f'{head}.deconv_layers.3.weight']
  kernel = params['deconv2']['kernel']
  np.testing.assert_array_equal(
    kernel, weight.transpose(2, 3, 0, 1)[::-1, ::-1]
  )
  np.testing.assert_array_equal(
    only.networks['all']['batch_stats']['deconv_bn3']['var'],
    arrays[f'{head}.deconv_layers.7.running_var'],
  )
  weight = arrays[f'{head}.final_layer.weight']
  kernel = params['heatmaps']['kernel']
  np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))


@pytest.mark.parametrize('decoder', heatmaps.DECODERS)
def test_cells_of_mmpose(decoder, tmp_path):
  """There a peak in cell i is of the middle of pixel 4 i, in each view."""
  save_file(mmpose(), tmp_path / 'm.safetensors')
  convert.convert(tmp_path / 'm.safetensors', tmp_path / 'W')
  options = trained.get_config(str(tmp_path / 'W')).heatmap
  options.decoder = decoder
  place = np.array([101.3, 60.7])  # of 256 pixels, from the crop's corner

  def view(x, y):
    cells = np.arange(64)
    bell = lambda at: np.exp(-((4 * cells + 0.5 - at) ** 2) / (2 * 8.0**2))
    return np.outer(bell(y), bell(x))[None, ..., None].astype(np.float32)

  plain = view(*place)
  mirrored = view(256 - place[0], place[1])[:, :, ::-1]
  tolerance = 1.1 if decoder == 'quarter' else 0.4  # a quarter, a tenth cell
  for views in ([plain], [plain, mirrored]):
    found = (
      np.asarray(heatmaps.Codec(**options).decode(views))[0, 0] + 0.5
    ) * 256
    np.testing.assert_allclose(found, place, atol=tolerance)
  normalised = np.float32(place[None, None] / 256 - 0.5)
  target = heatmaps.Codec(**options).encode(normalised, 64)
  np.testing.assert_allclose(target, plain, atol=1e-5)


WRONG_MMPOSE = {
  'five landmarks': (
    lambda: mmpose(n=5),
    'head.final_layer.weight: is of 5 landmarks, valid are 6 .upper., 4 .lower',
  ),
  'people': (lambda: mmpose(n=17), 'is of 17 landmarks, valid are'),
  'two deconvolutions': (
    lambda: mmpose(deconvs=2),
    r'head.deconv_layers.7.\w+: is missing, must be there with shape '
    r'\(16,\)',
  ),
  'four deconvolutions': (
    lambda: mmpose(deconvs=4),
    r'head.deconv_layers.(9|10).\w+: is of shape .*there is no such thing',
  ),
  'no head': (
    lambda: torchvision_weights.resnet(prefix='backbone.'),
    'is no heatmap estimator of mmpose on a ResNet',
  ),
  'torchvision VGG': (
    torchvision_weights.vgg,
    'is a classifier of ImageNet, with no landmarks to convert: start a '
    'training from it, --config=configs/dfa.py:pretrained=',
  ),
  'torchvision ResNet': (
    torchvision_weights.resnet,
    'is a classifier of ImageNet.*--config=configs/pcloss.py:pretrained=',
  ),
  'regression': (
    lambda: {
      **torchvision_weights.resnet(prefix='backbone.'),
      'head.fc.weight': torchvision_weights.draw(2, 2),
    },
    'is no heatmap estimator of mmpose on a ResNet',
  ),
}


@pytest.mark.parametrize('case', WRONG_MMPOSE)
def test_wrong_files_of_mmpose(case, tmp_path):
  make, message = WRONG_MMPOSE[case]
  path = tmp_path / 'm.safetensors'
  save_file(make(), path)
  with pytest.raises(InputError, match=f'm.safetensors.*{message}'):
    convert.convert(path, tmp_path / 'W')
  assert not (tmp_path / 'W').exists()


def test_a_caffemodel_alone_is_no_checkpoint(release, tmp_path):
  folder, _ = release('lower', **SMALL)
  with pytest.raises(InputError, match=f'{W1}: is neither a file of torch'):
    convert.convert(folder / W1, tmp_path / 'W')
