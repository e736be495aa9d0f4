"""Exports a trained cascade as files that run without fld_jax.

  DIR/model.stablehlo   or model.onnx: the whole method, crops -> landmarks
  DIR/model.float16.onnx, model.int8.onnx
                        the same with fewer bits, see `low_precision`; if asked
                        for
  DIR/manifest.json     inputs, outputs, versions, and the run they come from
  DIR/crop.py           cuts crops out of images and maps points back to them
  DIR/load.py           prints landmarks: python load.py IMAGE [x1 y1 x2 y2]

JAX guarantees to read a StableHLO file for six months; the manifest says until
when. ONNX is the format to keep.

Normalisation, every stage, routing and the decoding of heatmaps are inside the
model, the weights as constants. Its graph is that of `Cascade.forward`.
"""

import dataclasses
import datetime
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import numpy as np
from ml_collections import ConfigDict

from fld_jax import geometry, input_pipeline, schema
from fld_jax.cascade import stage as stage_lib
from fld_jax.cascade import store
from fld_jax.cascade.cascade import Cascade
from fld_jax.cascade.setup import Setup, resolve
from fld_jax.datasets.prepare import make_builder
from fld_jax.errors import InputError
from fld_jax.files.atomic import whole_folder, write_file
from fld_jax.files.json_files import write_json
from fld_jax.inference import export_templates, low_precision
from fld_jax.inference.export_formats import (
  FORMATS,
  LIMIT,
  Function,
  Loaded,
  package_version,
)
from fld_jax.ops import cpu_kernels
from fld_jax.runtime.manifest import read_manifest
from fld_jax.runtime.parallel import Parallel
from fld_jax.schema import LandmarkSet

TOLERANCE = 1e-3  # pixels of the crop, or of a probability
# ... or this share of a value: at 224 pixels two orders of adding up VGG-16's
# sums differ by 4e-6 of a coordinate.
RELATIVE = 1e-5
BATCH_SIZES = (1, 5)  # batch sizes that a file is checked with
NUM_CHECK_IMAGES = 64  # images from which those for the check are chosen
NUM_HELD_OUT = 128  # images that the ranges of int8 are read off


def export(
  config: ConfigDict,
  workdir: pathlib.Path,
  output: pathlib.Path,
  format: str,
  precisions: Sequence[str] = (),
) -> None:
  """Writes the folder that the module describes, or nothing.

  Args:
    config: The run's config; `routing.mode`, `flip_test` and `heatmap.decoder`
      are part of what is exported.
    workdir: The run's folder.
    output: DIR, an empty folder or one that does not exist.
    format: 'stablehlo' or 'onnx'.
    precisions: What is written beside the float32 file, keys of
      `low_precision.PRECISIONS`.

  Raises:
    InputError: The format is unknown, or has no other precisions, or the data
      are not prepared whose images int8 needs; a package is not installed, the
      output exists, the run is not finished, or its networks are too large.
    RuntimeError: The file's outputs differ from those of `Cascade.predict`.
  """
  if format not in FORMATS:
    raise InputError(
      f"--format is '{format}', valid values are {', '.join(FORMATS)}."
    )
  if precisions and format != 'onnx':
    raise InputError(
      f'--precisions={",".join(precisions)} needs --format=onnx, and --format '
      f"is '{format}'."
    )
  for name in precisions:
    if name not in low_precision.PRECISIONS:
      raise InputError(
        f"--precisions has '{name}', valid are "
        f'{", ".join(low_precision.PRECISIONS)}.'
      )
  if output.exists() and not (output.is_dir() and not any(output.iterdir())):
    raise InputError(
      f'--output is {output}, which is there already: give the name of a new '
      'folder.'
    )
  trained = read_manifest(workdir)
  setup = resolve(config, trained.get('landmarks'))
  stages, _ = store.load_cascade(config, setup, workdir)
  crops, source = _crops(config, setup)
  held_out = _held_out(config, setup) if 'int8' in precisions else crops
  run = {
    'data': trained['data'],
    'manifest_sha256': _sha256(workdir / 'manifest.json'),
    'checked_with': source,
  }
  lower = {name: held_out for name in precisions}
  manifest = write_export(
    stages, config, setup, crops, output, format, run, lower
  )
  for name, about in manifest['precisions'].items():
    print(
      f'{name}: {output}/{about["file"]}, landmarks {about["mean_pixels"]:.2g} '
      f'pixels of the crop off on average, {about["max_pixels"]:.2g} at most'
    )
  print(
    f'Model: {output}/model.{format}, checked with {source}\n'
    f'An example: python {output}/load.py IMAGE [x1 y1 x2 y2]',
    flush=True,
  )


def write_export(
  stages: list[stage_lib.Stage],
  config: ConfigDict,
  setup: Setup,
  crops: np.ndarray,
  output: pathlib.Path,
  format: str,
  run: dict,
  lower: Mapping[str, np.ndarray] | None = None,
) -> dict:
  """Exports, checks and writes; see `export`.

  The first file computes in float32, whatever the training did: half the digits
  would leave no way to tell a wrong file from a rounded one, and onnxruntime
  has no convolutions of bfloat16 on a CPU.

  Args:
    stages: The stages of a trained cascade.
    config: The run's config.
    setup: The objects that the config resolves to.
    crops: (n, S, S, 3) uint8 crops to check the file with.
    output: The folder that appears when all is written.
    format: 'stablehlo' or 'onnx'.
    run: What the manifest says of the run, JSON-ready.
    lower: Lower precision -> (n, S, S, 3) uint8 held-out crops for it.

  Returns:
    The manifest.

  Raises:
    InputError: The format is unknown, a package that it needs is not installed,
      or the networks are too large.
    RuntimeError: The file's outputs differ from those of `Cascade.predict`.
  """
  stages = stage_lib.needed(stages)
  weights = [stage.networks for stage in stages]
  size = sum(x.nbytes for x in jax.tree.leaves(weights))
  if size >= LIMIT and format == 'stablehlo':
    raise InputError(
      f'The networks have {size / 2**30:.2f} GiB, and --format=stablehlo holds '
      'less than 2 GiB: take --format=onnx.'
    )
  stages = [
    dataclasses.replace(stage, model=stage_lib.in_float32(stage.model))
    for stage in stages
  ]
  # On a CPU, whatever the devices: accelerators round products differently.
  device = jax.local_devices(backend='cpu')[0]
  cascade = Cascade(stages, setup, Parallel('shard_map', [device]))
  side = config.input.size
  shape = jax.export.symbolic_shape(f'B, {side}, {side}, 3')
  image = jax.ShapeDtypeStruct(shape, np.uint8)
  function = lambda image: _outputs(cascade.forward(image), setup.pipeline.size)
  convert, load, facts = FORMATS[format]
  # JAX keeps the first trace, so every trace has to be portable.
  with cpu_kernels.portable():
    manifest = _manifest(stages, config, setup, image, function)
  today = datetime.datetime.now(datetime.UTC).date()
  manifest |= {'format': format, 'exported': today.isoformat(), 'run': run}
  manifest['versions'] |= facts(today)
  with whole_folder(output) as folder:
    path = folder / f'model.{format}'
    with jax.default_device(device):
      with cpu_kernels.portable():
        convert(function, image, path, size)
      _check(load(path), cascade, crops)
    manifest['precisions'] = {
      name: _lower(name, path, held_out, crops)
      for name, held_out in (lower or {}).items()
    }
    manifest['files'] = {
      path.name: {'bytes': path.stat().st_size, 'sha256': _sha256(path)}
      for path in sorted(folder.iterdir())
    }
    write_json(folder / 'manifest.json', manifest)
    crop = export_templates.crop_module(config.input)
    write_file(folder / 'crop.py', crop.encode())
    write_file(folder / 'load.py', export_templates.loader(format).encode())
  return manifest


def _lower(
  name: str, path: pathlib.Path, held_out: np.ndarray, crops: np.ndarray
) -> dict[str, Any]:
  """Writes a file of lower precision; returns the manifest's entry of it.

  Args:
    name: The precision.
    path: The float32 file.
    held_out: (n, S, S, 3) crops that ranges are read off.
    crops: (n, S, S, 3) crops that the landmarks are compared on.
  """
  lower = path.with_name(f'{path.stem}.{name}{path.suffix}')
  low_precision.PRECISIONS[name](path, lower, held_out)
  load = FORMATS['onnx'][1]
  points = [load(file)(crops)['landmarks'] for file in (path, lower)]
  gap = np.linalg.norm(points[0] - points[1], axis=-1)
  return {
    'file': lower.name,
    'mean_pixels': float(gap.mean()),
    'max_pixels': float(gap.max()),
  }


def _outputs(stages: dict[str, dict], size: int) -> dict:
  """What a user sees of a cascade's outputs: name -> array."""
  pixels = lambda out: geometry.denormalise(out['estimate'], size)
  *earlier, last = stages.values()
  found = {'landmarks': pixels(last)}
  for name, out in zip(stages, earlier, strict=False):
    found[f'landmarks_{name}'] = pixels(out)
  if 'visibility' in last:
    found['visibility'] = jax.nn.softmax(last['visibility'], axis=-1)
    found['confidence'] = 1 - found['visibility'][..., schema.TRUNCATED]
  if 'attributes' in last:
    found['attributes'] = jax.nn.sigmoid(last['attributes'])
  for name in ('confidence', 'route'):
    if name in last:
      found[name] = last[name]
  return found


def _manifest(
  stages: list[stage_lib.Stage],
  config: ConfigDict,
  setup: Setup,
  image: jax.ShapeDtypeStruct,
  function: Function,
) -> dict:
  """What a user needs to know about a model, whatever its format."""
  return {
    'inputs': {'image': _describe(image, 'RGB crops, see crop.py')},
    'outputs': {
      name: _describe(value, _meaning(name))
      for name, value in jax.eval_shape(function, image).items()
    },
    'landmarks': _landmarks(setup.landmarks, config.dataset.name),
    'preprocessing': {
      **{key: config.input[key] for key in ('size', 'crop', 'margin')},
      'words': (
        'Grow the box by `margin` of its sides, cut it out, what lies outside '
        'is black, and bring it to `size` x `size`: bbox_wh stretches it, '
        'pad_square keeps its aspect ratio, and image takes the whole image '
        'in place of the box. crop.py does this. The model '
        'normalises by `mean` and `std` itself.'
      ),
      'mean': list(config.input.mean),
      'std': list(config.input.std),
    },
    'method': _method(stages, config),
    'versions': {name: package_version(name) for name in ('fld_jax', 'jax')},
  }


def _meaning(name: str) -> str:
  if name.startswith('landmarks'):
    stage = name.removeprefix('landmarks_')
    which = '' if stage == name else f' after {stage}'
    return (
      f'x, y in pixels of the crop{which}; (0, 0) is the top-left corner of '
      'its top-left pixel. crop.transform(back, points) are image pixels.'
    )
  return {
    'attributes': (
      'probabilities of the attributes, in the order of attributes.json of the '
      'run'
    ),
    'visibility': 'probabilities of visible, occluded, truncated',
    'confidence': (
      "0 to 1: the height of the heatmap, or of SimCC's distributions, over "
      'that of its target; of other networks the probability of not being '
      'truncated'
    ),
    'route': 'branch of the last stage: 0 easy, 1 hard',
  }[name]


def _describe(value: jax.ShapeDtypeStruct, meaning: str) -> dict:
  shape = [side if isinstance(side, int) else 'B' for side in value.shape]
  return {'shape': shape, 'dtype': str(value.dtype), 'meaning': meaning}


def _landmarks(landmarks: LandmarkSet, dataset: str) -> dict:
  return {
    'dataset': dataset,
    'names': list(landmarks.names),
    'partners_when_mirrored': landmarks.flip.tolist(),
    'sides': list(landmarks.sides),
    'of_clothes_type': {
      name: [landmarks.names[i] for i in sorted(landmarks.slots[code])]
      for code, name in landmarks.types.items()
      if code in landmarks.slots
    },
  }


def _method(stages: list[stage_lib.Stage], config: ConfigDict) -> dict:
  method = {
    'network': config.model.to_dict() | {'dtype': 'float32'},
    'stages': {stage.name: sorted(stage.networks) for stage in stages},
    'flip_test': config.flip_test,
  }
  if stage_lib.ALL not in stages[-1].networks:
    method['routing'] = {
      'mode': config.routing.mode,
      'epsilon': stages[-1].epsilon,
      'words': (
        'Every image passes both branches of the last stage: route takes the '
        'result of one, average and two_branch the mean of both.'
      ),
    }
  return method


def _crops(config: ConfigDict, setup: Setup) -> tuple[np.ndarray, str]:
  """Crops to check a file with, and where they come from.

  They are crops of the run's own evaluation split if that is prepared, else of
  rendered garments, which need no files.

  Args:
    config: The run's config.
    setup: The objects that the config resolves to.

  Returns:
    ((n, S, S, 3) uint8, a phrase that names the images).
  """
  source = _own_images(config, setup, config.eval_splits[0])
  if source is not None:
    records = (source[i] for i in range(min(NUM_CHECK_IMAGES, len(source))))
    name = f'images of {config.dataset.name} {config.eval_splits[0]}'
  else:
    from fld_jax.datasets.synthetic import builder as synthetic_builder

    garments = (
      synthetic_builder.example(0, 'test', i) for i in range(NUM_CHECK_IMAGES)
    )
    # As TFDS reads them: texts are bytes.
    records = (
      {**garment, 'id': garment['id'].encode(), 'index': i}
      for i, garment in enumerate(garments)
    )
    name = 'rendered garments'
  example = input_pipeline.Example(setup.pipeline, augment=False)
  return np.stack([example(record, None)['image'] for record in records]), name


def _held_out(config: ConfigDict, setup: Setup) -> np.ndarray:
  """Crops that no network was trained on, to read ranges off.

  They are evenly spread over `config.dataset.splits.tune`, on which checkpoints
  are chosen: what is reported stays unseen.

  Args:
    config: The run's config.
    setup: The objects that the config resolves to.

  Raises:
    InputError: The data are not prepared.
  """
  split = config.dataset.splits.tune
  records = _own_images(config, setup, split)
  if records is None:
    raise InputError(
      f"--precisions=int8 needs images of the split '{split}' of "
      f'{config.dataset.name}, which is not prepared: first --mode=prepare, '
      'or give --manual_dir and --config.dataset.data_dir.'
    )
  count = min(NUM_HELD_OUT, len(records))
  example = input_pipeline.Example(setup.pipeline, augment=False)
  picks = np.linspace(0, len(records) - 1, count).astype(int)
  return np.stack([example(records[int(i)], None)['image'] for i in picks])


def _own_images(
  config: ConfigDict, setup: Setup, split: str
) -> input_pipeline.Records | None:
  """A split of the run's own data, None where they are not prepared."""
  try:
    builder = make_builder(config.dataset)
    if not builder.is_prepared():
      return None
    return input_pipeline.Records(builder, split, only=setup.selected)
  except InputError:  # the data are not here, or no longer as they were
    return None


def _check(run: Loaded, cascade: Cascade, crops: np.ndarray) -> None:
  """Compares a loaded file with `Cascade.predict`.

  Args:
    run: The loaded file.
    cascade: The cascade that was exported.
    crops: (n, S, S, 3) uint8.

  Raises:
    RuntimeError: An output differs by more than TOLERANCE and RELATIVE.
  """
  count = len(crops)
  batch = {
    'image': crops,
    'mask': np.ones(count, np.float32),
    'corrupt': np.zeros(count, np.int32),
  }
  rows = cascade.predict([batch])
  expected = jax.device_get(
    _outputs(rows['stages'], cascade.setup.pipeline.size)
  )
  # Evenly over the routing scores, so that both branches are seen.
  order = np.argsort(rows.get('route_score', np.zeros(count)), kind='stable')
  for size in BATCH_SIZES:
    picks = order[np.linspace(0, count - 1, max(BATCH_SIZES)).astype(int)]
    parts = [
      run(crops[picks[i : i + size]]) for i in range(0, len(picks), size)
    ]
    for name, value in expected.items():
      found = np.concatenate([part[name] for part in parts])
      gap = np.abs(found - value[picks])
      if not (gap <= np.maximum(TOLERANCE, RELATIVE * np.abs(found))).all():
        raise RuntimeError(
          f"The exported model is wrong: with batches of {size}, '{name}' "
          f'differs by {gap.max():.2g} from that of Cascade.predict.'
        )


def _sha256(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
