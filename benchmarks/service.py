"""The service under load, on loopback: python benchmarks/service.py --help.

  python benchmarks/service.py --workdir=W --images=DIR [--seconds=600]

starts `--mode=serve` of a run and sends it a mixed load: of five requests four
have one photo and one has four, every other with a box. In turns

  capacity   as many requests as 16 clients can have answered, one after another
  load       at times of a Poisson process, at --share of that capacity
  overload   the same at three times the capacity
  after      one client alone: whether it has recovered
  bad        1,000 requests of 20 kinds that are to be refused
  sigterm    as `capacity`, when the process is told to end

and prints a line of JSON for each: requests, the statuses, images/s, p50 and
p99 of the milliseconds of those that were answered, and the resident memory at
the end. The clients run on the same machine, in a process of their own.
"""

import argparse
import collections
import contextlib
import http.client
import io
import json
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

import numpy as np
from PIL import Image

from fld_jax.inference import photos

CLIENTS = 16
MANY = 96  # threads of an open load: more than the requests that wait at a time


def form(images: list[tuple[str, bytes]], boxes: str | None) -> tuple:
  """The body and the headers of a request.

  Args:
    images: The name and the bytes of each photo.
    boxes: The field `boxes`; None to leave it out.
  """
  mark = uuid.uuid4().hex
  parts = [(f'name="images"; filename="{n}"', content) for n, content in images]
  if boxes is not None:
    parts.append(('name="boxes"', boxes.encode()))
  body = b''.join(
    f'--{mark}\r\nContent-Disposition: form-data; {about}\r\n\r\n'.encode()
    + content
    + b'\r\n'
    for about, content in parts
  )
  kind = f'multipart/form-data; boundary={mark}'
  return body + f'--{mark}--\r\n'.encode(), {'Content-Type': kind}


def mixed(paths: list[pathlib.Path], count: int) -> list[tuple[int, tuple]]:
  """Requests of the mixed load, each with its number of photos.

  Args:
    paths: The photos.
    count: The number of requests.
  """
  rng = np.random.default_rng(0)
  made = []
  for i in range(count):
    chosen = [
      paths[j] for j in rng.integers(len(paths), size=(1, 4)[i % 5 == 4])
    ]
    images = [(f'{k}-{p.name}', p.read_bytes()) for k, p in enumerate(chosen)]
    boxes = None
    if i % 2:
      sizes = [Image.open(path).size for path in chosen]
      boxes = json.dumps([[1, 1, w - 1, h - 1] for w, h in sizes])
    made.append((len(chosen), form(images, boxes)))
  return made


class Load:
  """Clients of a service, and what they were told.

  Attributes:
    answers: (seconds, status, photos) of each request; the status is 0 where
      there was no answer.
  """

  def __init__(self, port: int):
    self._port, self.answers = port, []
    self._own = threading.local()

  def send(self, count: int, request: tuple, since: float | None = None):
    """Sends a request and waits for the answer; returns (status, bytes).

    Args:
      count: Its number of photos.
      request: Its body and headers.
      since: The time it was due, of `time.monotonic`; None for now.
    """
    start = since or time.monotonic()
    status, content = 0, b''
    connection = getattr(self._own, 'connection', None)
    if connection is None:
      connection = http.client.HTTPConnection(
        '127.0.0.1', self._port, timeout=90
      )
      connection.connect()  # who does not listen any more has taken nothing
    try:
      connection.request('POST', '/predict', *request)
      answer = connection.getresponse()
      status, content = answer.status, answer.read()
      closes = answer.getheader('connection') == 'close'
    except (OSError, http.client.HTTPException):
      closes = True
    if closes:
      connection.close()
      connection = None
    self._own.connection = connection
    self.answers.append((time.monotonic() - start, status, count))
    return status, content

  def closed(self, requests: list, seconds: float, clients: int) -> float:
    """Each client sends one request after another; returns the time it took."""
    start = time.monotonic()

    def client(number: int) -> None:
      i = number
      with contextlib.suppress(ConnectionError):
        while time.monotonic() < start + seconds:
          self.send(*requests[i % len(requests)])
          i += clients

    _together(client, clients)
    return time.monotonic() - start

  def open(self, requests: list, seconds: float, rate: float) -> float:
    """Sends requests at times that do not wait for the answers."""
    rng = np.random.default_rng(1)
    due: queue.Queue = queue.Queue()
    at = start = time.monotonic()
    while (at := at + rng.exponential(1 / rate)) < start + seconds:
      due.put(at)

    def client(number: int) -> None:
      with contextlib.suppress(queue.Empty):
        while True:
          at = due.get_nowait()
          time.sleep(max(0, at - time.monotonic()))
          i = int(at * 1e6) % len(requests)
          self.send(*requests[i], since=at)

    _together(client, MANY)
    return time.monotonic() - start


def _together(client, count: int) -> None:
  threads = [threading.Thread(target=client, args=(i,)) for i in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()


def memory(process: subprocess.Popen) -> int | None:
  """MiB that a process has in memory; None if it has ended."""
  try:
    text = pathlib.Path(f'/proc/{process.pid}/status').read_text()
    return int(re.search(r'VmRSS:\s+(\d+)', text)[1]) // 1024
  except (OSError, TypeError):
    return None


def report(name: str, load: Load, seconds: float, process, **more) -> dict:
  """Prints what a load was told."""
  ok = [(s, n) for s, status, n in load.answers if status == 200]
  times = np.array([s for s, _ in ok]) * 1e3
  line = {
    'part': name,
    'requests': len(load.answers),
    'statuses': dict(collections.Counter(s for _, s, _ in load.answers)),
    'requests_per_s': round(len(ok) / seconds, 2),
    'images_per_s': round(sum(n for _, n in ok) / seconds, 2),
    'p50_ms': round(float(np.quantile(times, 0.5)), 1) if ok else None,
    'p99_ms': round(float(np.quantile(times, 0.99)), 1) if ok else None,
    'MiB': memory(process),
    **more,
  }
  print(json.dumps(line), flush=True)
  return line


def bad(path: pathlib.Path) -> list[tuple]:
  """Twenty requests that are to be refused."""
  image = path.read_bytes()
  one = [('a.jpg', image)]
  small = io.BytesIO()
  Image.new('RGB', (1, 1)).save(small, 'PNG')
  kind = {'Content-Type': 'multipart/form-data; boundary=x'}
  return [
    (b'{}', {'Content-Type': 'application/json'}),
    (image, {'Content-Type': 'image/jpeg'}),
    (image, {'Content-Type': ''}),
    (b'x', {'Content-Type': 'multipart/form-data'}),
    (b'--x--\r\n', kind),
    (b'\0\xff' * 99, kind),
    (b'', kind),
    form([('a.jpg', b'text')], None),
    form([('a.jpg', b'')], None),
    form([('a.jpg', image[: len(image) // 2])], None),
    form([('a.eps', b'%!PS-Adobe-3.0\n')], None),
    form([('a.png', small.getvalue())], None),
    form([(f'{i}', image) for i in range(17)], None),
    form(one * 2, None),
    form(one, '[[0, 0, 9'),
    form(one, '[' * 99_999),
    form(one, '[null, null]'),
    form(one, '[[1, 2, 3]]'),
    form(one, '[[0, 0, NaN, 9]]'),
    form(one, '[[5, 5, 5, 9]]'),
  ]


def main() -> None:
  """Reads the arguments and runs all parts."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--images', required=True)
  parser.add_argument('--seconds', type=float, default=600, help='of the load')
  parser.add_argument('--share', type=float, default=0.8, help='of capacity')
  parser.add_argument(
    '--prefix', default='', help='before the service: taskset'
  )
  parser.add_argument('--runtime', default='jax')
  arguments = parser.parse_args()
  root, names = photos.find(arguments.images)[:2]
  paths = [root / name for name in names[:200]]
  requests = mixed(paths, 400)
  command = [*arguments.prefix.split(), sys.executable, '-m', 'fld_jax.main']
  command += ['--mode=serve', f'--workdir={arguments.workdir}', '--port=0']
  command += [f'--runtime={arguments.runtime}', '--max_queue=64']
  start = time.monotonic()
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    try:
      line = process.stdout.readline()
      port = int(re.search(r':(\d+),', line)[1])
      print(json.dumps({'start_s': round(time.monotonic() - start, 1)}))
      brief = min(20.0, arguments.seconds)
      Load(port).closed(requests, brief / 4, CLIENTS)  # warm
      load = Load(port)
      took = load.closed(requests, brief, CLIENTS)
      rate = report('capacity', load, took, process)['requests_per_s']
      for name, seconds, share in [
        ('load', arguments.seconds, arguments.share),
        ('overload', brief, 3),
      ]:
        load = Load(port)
        took = load.open(requests, seconds, rate * share)
        report(name, load, took, process, rate=round(rate * share, 2))
      load = Load(port)
      took = load.closed(requests, brief / 4, 1)
      report('after', load, took, process)
      load, sentences = Load(port), 0
      kinds, start = bad(paths[0]), time.monotonic()
      for i in range(1000):
        _, content = load.send(1, kinds[i % len(kinds)])
        sentences += list(json.loads(content or '{}')) == ['error']
      report(
        'bad', load, time.monotonic() - start, process, sentences=sentences
      )
      load = Load(port)
      timer = threading.Timer(
        brief / 4, lambda: process.send_signal(signal.SIGTERM)
      )
      timer.start()
      took = load.closed(requests, brief / 2 + 10, CLIENTS)
      said = process.stdout.read().strip()
      report('sigterm', load, took, process, exit=process.wait(60), said=said)
    finally:
      process.kill()


if __name__ == '__main__':
  main()
