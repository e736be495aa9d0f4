"""`--mode=serve`: the answers of `--mode=predict`, whatever comes."""

import asyncio
import concurrent.futures
import io
import json
import re
import signal
import threading
import time

import numpy as np
import pytest
from http_service import ask, form, serving
from PIL import Image

pytest.importorskip('fastapi')
pytest.importorskip('uvicorn')

from starlette.requests import Request  # noqa: E402

from fld_jax import input_pipeline, landmark_sets  # noqa: E402
from fld_jax.configs import trained  # noqa: E402
from fld_jax.inference import predict_files  # noqa: E402
from fld_jax.service.app import Service  # noqa: E402
from fld_jax.service.requests import Limits  # noqa: E402

LIMITS = ('--max_images=16', '--max_megabytes=0.4', '--max_megapixels=0.2')


@pytest.fixture(scope='module')
def photos(synthetic_builder):
  """(name, bytes, box) of the test images."""
  records = input_pipeline.Records(synthetic_builder, 'test')
  return [
    (f'{i:02}.jpg', record['image'], record['box'].tolist())
    for i, record in enumerate(records)
  ]


@pytest.fixture(scope='module')
def service(trained_workdir):
  with serving(trained_workdir, *LIMITS) as running:
    yield running


@pytest.fixture(scope='module')
def predicted(trained_workdir, photos, tmp_path_factory):
  """The object of predictions.json, each photo with its box."""
  folder = tmp_path_factory.mktemp('photos')
  lines = ['image,x1,y1,x2,y2']
  for name, content, box in photos:
    (folder / name).write_bytes(content)
    lines.append(','.join([name, *map(repr, box)]))
  (folder / 'boxes.csv').write_text('\n'.join(lines) + '\n')
  output = tmp_path_factory.mktemp('output')
  predict_files.predict_files(
    trained.get_config(str(trained_workdir)),
    trained_workdir,
    str(folder),
    folder / 'boxes.csv',
    output,
    overlays=False,
  )
  return json.loads((output / 'predictions.json').read_text())


def assert_same(found, expected):
  """That two JSON values are the same, but for the last digits of numbers."""
  if isinstance(expected, dict):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
      assert_same(found[key], value)
  elif isinstance(expected, list):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
      assert_same(one, other)
  elif isinstance(expected, float):
    assert found == pytest.approx(expected, abs=1e-3)
  else:
    assert found == expected


def test_answers_are_what_predict_writes(service, photos, predicted):
  images = [(name, content) for name, content, _ in photos]
  boxes = [box for *_, box in photos]
  status, found, _ = ask(service, '/predict', *form(images, boxes))
  assert status == 200
  assert_same(found, predicted)


def test_several_items_on_a_photo_and_none_given(service, photos, predicted):
  (name, content, box), (other, more, _) = photos[:2]
  boxes = [[box, box], None]
  images = [(name, content), (other, more)]
  status, found, _ = ask(service, '/predict', *form(images, boxes))
  assert status == 200 and len(found['images']) == 2
  first, again, whole = found['annotations']
  assert first['keypoints'] == again['keypoints']
  assert_same(first, predicted['annotations'][0])
  assert first['image_id'] == again['image_id'] != whole['image_id']
  size = found['images'][1]
  assert whole['bbox'] == [0, 0, size['width'], size['height']]


def test_requests_share_batches(service, photos, predicted):
  def one(i):
    name, content, box = photos[i % 16]
    return ask(service, '/predict', *form([(name, content)], [box]))

  def count(name):
    text = ask(service, '/metrics')[1]
    return float(re.search(rf'^{name} (\S+)$', text, re.MULTILINE)[1])

  before = count('fld_jax_batch_items_count'), count('fld_jax_items_total')
  with concurrent.futures.ThreadPoolExecutor(16) as pool:
    answers = list(pool.map(one, range(64)))
  for i, (status, found, _) in enumerate(answers):
    assert status == 200
    (annotation,) = found['annotations']
    expected = predicted['annotations'][i % 16]['keypoints']
    np.testing.assert_allclose(annotation['keypoints'], expected, atol=1e-3)
  batches = count('fld_jax_batch_items_count') - before[0]
  assert count('fld_jax_items_total') - before[1] == 64 > batches
  assert count('fld_jax_items_under_way') == 0


def test_health_and_pages(service):
  assert ask(service, '/healthz')[:2] == (200, {'status': 'ok'})
  assert ask(service, '/readyz')[:2] == (200, {'status': 'ready'})
  status, text, _ = ask(service, '/metrics')
  assert status == 200 and 'process_resident_memory_bytes' in text
  status, described, _ = ask(service, '/openapi.json')
  asked = described['paths']['/predict']['post']
  assert {'200', '400', '413', '422', '429', '503'} <= asked['responses'].keys()
  assert 'multipart/form-data' in asked['requestBody']['content']
  assert ask(service, '/docs')[0] == 200


def encoded(width, height, kind='PNG', mode='RGB'):
  file = io.BytesIO()
  Image.new(mode, (width, height)).save(file, kind)
  return file.getvalue()


OK = encoded(40, 30)
PHOTO = [('a.png', OK)]
TEXT = {'Content-Type': 'text/plain'}
BOUNDARY = {'Content-Type': 'multipart/form-data; boundary=x'}
BARE = {'Content-Type': 'multipart/form-data'}
# What is asked -> (body, headers), status, words.
BAD = {
  'no form': (b'{}', {'Content-Type': 'application/json'}, 415, 'content type'),
  'no type': (OK, {'Content-Type': ''}, 415, 'content type'),
  'no boundary': (b'x', BARE, 400, 'boundary'),
  'no parts': (b'--x--\r\n', BOUNDARY, 400, 'no photo'),
  'rubbish': (b'\0\xff' * 99, BOUNDARY, 400, 'form'),
  'cut off': (form(PHOTO)[0][:150], BOUNDARY, 400, ''),
  'an empty body': (b'', BOUNDARY, 400, ''),
  'a text as a photo': (*form([(None, OK)]), 400, 'a.*file'),
  'another field': (*form(PHOTO, field='image'), 400, "'image' is unknown"),
  'one more field': (*form(PHOTO, more=[('a', 'b')]), 400, "'a' is unknown"),
  'no image': (*form([('a.jpg', b'text')]), 422, 'a.jpg: is not an image'),
  'an empty file': (*form([('a.jpg', b'')]), 422, 'a.jpg.* is empty'),
  'half an image': (*form([('a.png', OK[:60])]), 422, 'a.png: is damaged'),
  'PostScript': (*form([('a.eps', b'%!PS-Adobe-3.0\n')]), 422, 'not an image'),
  'pixels': (*form([('a.png', encoded(500, 401))]), 422, '500 x 401 pixels'),
  'one pixel': (*form([('a.png', encoded(1, 1))]), 422, 'is 1 x 1 pixels'),
  'bytes': (*form([('a.png', bytes(500_000))]), 413, 'more than 400000 bytes'),
  'photos': (*form([(f'{i}', OK) for i in range(17)]), 413, 'than 16 photos'),
  'items': (*form(PHOTO, [[[0, 0, 9, 9]] * 17]), 413, 'than 16 items'),
  'equal names': (*form(PHOTO * 2), 422, r'images\[1\] has the name'),
  'no JSON': (*form(PHOTO, '[[0, 0, 9'), 422, "'boxes' is no JSON"),
  'deep JSON': (*form(PHOTO, '[' * 99_999), 422, "'boxes' is no JSON"),
  'no list': (*form(PHOTO, '{"a": 1}'), 422, "'boxes' is {'a': 1}"),
  'two boxes': (*form(PHOTO, [None, None]), 422, '2 entries for 1 photos'),
  'three numbers': (*form(PHOTO, [[1, 2, 3]]), 422, r'boxes\[0\] is \[1, 2'),
  'words': (*form(PHOTO, [['1', 2, 3, 4]]), 422, r'boxes\[0\] is'),
  'NaN': (*form(PHOTO, '[[0, 0, NaN, 9]]'), 422, r'boxes\[0\] is'),
  'a huge number': (*form(PHOTO, f'[[0,0,{"9" * 999},9]]'), 422, r'boxes\[0\]'),
  'no area': (*form(PHOTO, [[5, 5, 5, 9]]), 422, 'a.png, box: is 0 x 4'),
  'elsewhere': (*form(PHOTO, [[50, 0, 60, 9]]), 422, 'lies outside of'),
  'boxes twice': (*form(PHOTO, '[]', more=[('boxes', '[]')]), 400, 'one text'),
}


@pytest.mark.parametrize('what', BAD)
def test_bad_requests_get_a_sentence(service, what):
  body, headers, status, words = BAD[what]
  found, content, _ = ask(service, '/predict', body, headers)
  assert (found, list(content)) == (status, ['error'])
  sentence = content['error']
  assert re.search(words, sentence) and sentence.isprintable()
  assert sentence[0].isprintable() and sentence.endswith('.')
  assert len(sentence) < 500
  assert ask(service, '/predict', *form(PHOTO))[0] == 200  # and it goes on


@pytest.mark.parametrize(
  ('path', 'method', 'status'),
  [
    ('/predict', 'GET', 405),
    ('/nothing', 'GET', 404),
    ('/healthz', 'PUT', 405),
  ],
)
def test_other_paths_and_methods(service, path, method, status):
  found, content, _ = ask(service, path, method=method)
  assert found == status and list(content) == ['error']


def test_a_body_without_a_length_is_limited_too(service):
  body, headers = form([('a.png', bytes(900_000))])
  chunks = (body[i : i + 10_000] for i in range(0, len(body), 10_000))
  try:
    status, content, _ = ask(service, '/predict', chunks, headers)
  except (BrokenPipeError, ConnectionResetError):  # it is not read to its end
    return
  assert status == 413 and 'more than 400000 bytes' in content['error']


def test_overload_is_refused_and_passes(trained_workdir, photos):
  name, content, box = photos[0]
  body, headers = form([(name, content)], [box])
  with serving(trained_workdir, '--max_queue=3') as running:

    def some(_):
      return [ask(running, '/predict', body, headers) for _ in range(10)]

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
      answers = sum(pool.map(some, range(24)), [])
    statuses = [status for status, *_ in answers]
    assert set(statuses) == {200, 429}
    refused = [answer for answer in answers if answer[0] == 429]
    assert all('try again later.' in found['error'] for _, found, _ in refused)
    assert all(headers['Retry-After'] == '1' for *_, headers in refused)
    many = form([(f'{i}.jpg', content) for i in range(4)])
    assert ask(running, '/predict', *many)[0] == 429  # more than may ever be
    assert ask(running, '/predict', body, headers)[0] == 200


def test_sigterm_loses_no_request(trained_workdir, photos):
  """Clients with and without connections that are kept, as it ends."""
  name, content, box = photos[0]
  body, headers = form([(name, content)], [box])
  with serving(trained_workdir, '--drain_seconds=3') as running:
    answered, lost, refused = [], [], []

    def client(keeps):
      connection = None
      while not refused:
        if connection is None or not keeps:
          connection = running.connection()
          try:
            connection.connect()
          except OSError:
            refused.append(time.monotonic())  # it no longer listens
            return
        try:
          status, _, given = ask(
            running, '/predict', body, headers, connection=connection
          )
        except Exception as error:
          lost.append(error)
          return
        answered.append((time.monotonic(), status, given.get('connection')))
        if given.get('connection') == 'close':
          connection.close()
          connection = None

    clients = [
      threading.Thread(target=client, args=(i % 2 == 0,)) for i in range(6)
    ]
    for each in clients:
      each.start()
    while len(answered) < 6 and not lost:
      time.sleep(0.05)
    running.process.send_signal(signal.SIGTERM)
    asked = 1
    while (state := ask(running, '/readyz')[:2])[0] == 200:
      asked += 1
    assert state == (503, {'status': 'draining'})
    told = time.monotonic()
    for each in clients:
      each.join(60)
    status, printed = running.ended()
  assert not lost
  assert {status for _, status, _ in answered} == {200}
  late = [given for at, _, given in answered if at > told + 1]
  assert late and set(late) == {'close'}
  assert status == 0
  begun, done = re.search(r'Ended: (\d+) of (\d+) requests', printed).groups()
  assert begun == done == str(len(answered) + asked)


# --- Without a process


class Slow:
  """In place of a predictor: it takes its time."""

  landmark_set = landmark_sets.FASHION_8
  shapes = (1,)

  def __init__(self, seconds):
    self.seconds = seconds

  def prepare(self, image, box, name):
    return {}

  def predict_prepared(self, examples):
    time.sleep(self.seconds)
    raise AssertionError('nobody waits for it')


def answer(service, body, headers):
  """The (status, object) of a request to a service in this process."""
  sent = [{'type': 'http.request', 'body': body, 'more_body': False}]

  async def receive():
    return sent.pop(0) if sent else await asyncio.sleep(60)

  raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
  scope = {'type': 'http', 'method': 'POST', 'path': '/', 'headers': raw}

  async def run():
    async with service.running():
      return await service.predict(Request(scope, receive))

  found = asyncio.run(run())
  return found.status_code, json.loads(found.body)


def test_what_is_not_done_in_time():
  service = Service(Slow(2), Limits(seconds=1), 0)
  status, content = answer(service, *form(PHOTO))
  assert status == 504 and 'not done within 1 s' in content['error']


def test_what_is_not_begun_in_time():
  service = Service(Slow(0), Limits(seconds=0.1), 60)
  service._batcher._most, service._batcher._num_expected = 2, lambda: 2
  status, content = answer(service, *form(PHOTO))
  assert status == 503 and 'not begun within 0.1 s' in content['error']


def test_what_is_sent_too_slowly():
  service = Service(Slow(0), Limits(seconds=0.1), 0)
  body, headers = form(PHOTO)

  async def receive():
    await asyncio.sleep(0.04)
    return {'type': 'http.request', 'body': b'', 'more_body': True}

  raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
  scope = {'type': 'http', 'method': 'POST', 'path': '/', 'headers': raw}
  found = asyncio.run(service.predict(Request(scope, receive)))
  assert found.status_code == 408
  assert 'not sent within 0.1 s' in json.loads(found.body)['error']
