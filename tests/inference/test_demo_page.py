"""The page that runs an export in the browser.

Its crops are held to those of `geometry.cut`, by Node.js, and its landmarks to
those of `Predictor`, in Chromium.
"""

import functools
import http.server
import json
import pathlib
import shutil
import subprocess
import threading

import cv2
import numpy as np
import pytest

from fld_jax import geometry
from fld_jax.configs import trained
from fld_jax.errors import InputError
from fld_jax.inference import demo_page
from fld_jax.inference.predictor import Predictor

DEMO = pathlib.Path(demo_page.__file__).parent / 'demo'
BROWSER = next(
  filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'chrome'))),
  None,
)


def picture(width, height, seed=0):
  """A photo with edges and soft parts."""
  rng = np.random.default_rng(seed)
  coarse = rng.integers(0, 256, (8, 6, 3), dtype=np.uint8)
  image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
  cv2.rectangle(image, (5, 5), (width // 2, height // 2), (250, 20, 90), -1)
  return image


@pytest.mark.skipif(not shutil.which('node'), reason='no Node.js here')
@pytest.mark.parametrize(
  ('size', 'crop', 'box'),
  [
    (32, 'bbox_wh', (20, 10, 180, 230)),  # reduced
    (32, 'pad_square', (20, 10, 180, 230)),
    (64, 'bbox_wh', (31.5, 42.25, 70.0, 66.5)),  # enlarged
    (48, 'bbox_wh', (-30, 100, 90, 400)),  # beyond the photo
    (32, 'bbox_wh', (500, 500, 600, 600)),  # beside it
    (48, 'pad_square', (10, 10, 190, 40)),  # reduced along one axis alone
  ],
)
def test_crops_are_those_of_python(tmp_path, size, crop, box):
  image = picture(200, 240)
  rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
  (tmp_path / 'crop.mjs').write_text((DEMO / 'crop.js').read_text())
  (tmp_path / 'photo.bin').write_bytes(rgba.tobytes())
  (tmp_path / 'run.mjs').write_text(f"""
    import {{cut}} from './crop.mjs';
    import fs from 'node:fs';
    const data = fs.readFileSync('photo.bin');
    const image = {{width: 200, height: 240, data}};
    const settings = {{size: {size}, crop: '{crop}', margin: 0.125}};
    const {{pixels, toImage}} = cut(image, {json.dumps(box)}, settings);
    fs.writeFileSync('crop.bin', pixels);
    console.log(JSON.stringify([toImage(0, 0), toImage(10, 3)]));
  """)
  done = subprocess.run(
    ['node', 'run.mjs'],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  )
  expected, affine = geometry.cut(
    image, np.asarray(box, np.float32), size, crop, 0.125
  )
  found = np.frombuffer((tmp_path / 'crop.bin').read_bytes(), np.uint8)
  gaps = np.abs(found.reshape(size, size, 3).astype(int) - expected)
  # OpenCV interpolates in steps of 1/32 pixel.
  assert gaps.mean() < 0.7 and gaps.max() <= 10
  points = geometry.transform(
    geometry.invert(affine), np.array([[0.0, 0], [10, 3]])
  )
  np.testing.assert_allclose(json.loads(done.stdout), points, atol=1e-3)


def test_without_npm_the_mode_says_so(monkeypatch, tmp_path):
  monkeypatch.setattr(demo_page.shutil, 'which', lambda name: None)
  with pytest.raises(InputError, match='needs npm'):
    demo_page.write_demo(None, tmp_path, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_package_that_npm_lacks_is_an_error(monkeypatch, tmp_path):
  fake = tmp_path / 'npm'
  fake.write_text('#!/bin/sh\necho "npm error 404 Not Found" >&2\nexit 1\n')
  fake.chmod(0o755)
  monkeypatch.setattr(demo_page.shutil, 'which', lambda name: str(fake))
  with pytest.raises(InputError, match='404 Not Found'):
    demo_page.write_demo(None, tmp_path, tmp_path / 'out')


class _Quiet(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *args):
    pass


@pytest.fixture
def served(trained_workdir, tmp_path):
  """The folder of a page, its address, and the run's config."""
  pytest.importorskip('onnxruntime')
  pytest.importorskip('jax2onnx')
  config = trained.get_config(str(trained_workdir))
  output = tmp_path / 'page'
  try:
    demo_page.write_demo(config, trained_workdir, output)
  except InputError as problem:
    if 'npm' in str(problem):
      pytest.skip(f'{problem}')
    raise
  handler = functools.partial(_Quiet, directory=str(output))
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield output, f'http://127.0.0.1:{server.server_port}', config
  server.shutdown()
  server.server_close()


@pytest.mark.skipif(not BROWSER, reason='no Chromium here')
def test_landmarks_are_those_of_predict(served, trained_workdir):
  """At the widths of a desk and of a telephone; nothing leaves the server."""
  sync_api = pytest.importorskip('playwright.sync_api')
  output, address, config = served
  image = picture(200, 240)
  cv2.imwrite(str(output / 'photo.png'), image[..., ::-1])
  predictor = Predictor.load(trained_workdir, config)
  boxes = [None, [20.0, 30.0, 150.0, 200.0]]
  expected = predictor([image] * 2, boxes)
  flags = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
  requests, wrong = [], []
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
    for width, box, found in zip((1280, 390), boxes, expected, strict=True):
      tab = browser.new_page(viewport={'width': width, 'height': 844})
      tab.set_default_timeout(120_000)  # ms
      tab.on('request', lambda request: requests.append(request.url))
      tab.on('pageerror', lambda error: wrong.append(str(error)))
      query = '?photo=photo.png'
      if box:
        query += '&box=' + ','.join(map(str, box))
      tab.goto(f'{address}/{query}')
      tab.wait_for_selector('body[data-result]')
      result = json.loads(tab.get_attribute('body', 'data-result'))
      names = [each['name'] for each in result['landmarks']]
      assert names == list(found.names)
      places = [(each['x'], each['y']) for each in result['landmarks']]
      np.testing.assert_allclose(places, found.positions, atol=0.5)
      wide = tab.evaluate('document.documentElement.scrollWidth')
      assert wide <= width
      assert tab.locator('#rows tr').count() == len(names)
      tab.screenshot(path=str(output / f'{width}.png'), full_page=True)
    browser.close()
  assert wrong == []
  assert all(url.startswith((address, 'blob:', 'data:')) for url in requests)
