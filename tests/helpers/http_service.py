"""The service as a process, and requests to it."""

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import uuid

from places import ROOT


class Running:
  """A service.

  Attributes:
    process: The process.
    port: Its port.
    lines: What it printed after it was ready, known once it ended.
  """

  def __init__(self, process, port):
    self.process, self.port, self.lines = process, port, []
    self._reader = threading.Thread(target=self._read, daemon=True)
    self._reader.start()

  def _read(self):
    self.lines += list(self.process.stdout)

  def ended(self):
    """(status, what it printed)"""
    status = self.process.wait(60)
    self._reader.join(10)
    return status, ''.join(self.lines)

  def connection(self):
    return http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)


@contextlib.contextmanager
def serving(workdir, *flags):
  """A service of a run; it is killed at the end."""
  command = [sys.executable, '-m', 'fld_jax.main', '--mode=serve']
  command += [f'--workdir={workdir}', '--port=0', *flags]
  with subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path])},
  ) as process:
    try:
      printed = ''
      for line in process.stdout:
        printed += line
        found = re.search(r'Serving at http://127.0.0.1:(\d+)', line)
        if found:
          break
      else:
        raise AssertionError(printed)
      yield Running(process, int(found[1]))
    finally:
      process.kill()


def form(images, boxes=None, field='images', more=()):
  """(body, headers) of a request.

  Args:
    images: (name, bytes) of each photo; a name of None leaves it out.
    boxes: text, or what JSON is made of; None for none.
    field: the name of the photos' field.
    more: (name, text) of other fields.
  """
  boundary = uuid.uuid4().hex
  texts = list(more)
  if boxes is not None:
    texts.append(
      ('boxes', boxes if isinstance(boxes, str) else json.dumps(boxes))
    )
  parts = []
  for name, content in images:
    file = '' if name is None else f'; filename="{name}"'
    parts.append((f'name="{field}"{file}', content))
  parts += [(f'name="{name}"', text.encode()) for name, text in texts]
  body = b''.join(
    f'--{boundary}\r\nContent-Disposition: form-data; '.encode()
    + about.encode()
    + b'\r\n\r\n'
    + content
    + b'\r\n'
    for about, content in parts
  )
  body += f'--{boundary}--\r\n'.encode()
  kind = f'multipart/form-data; boundary={boundary}'
  return body, {'Content-Type': kind}


def ask(running, path, body=None, headers=None, method=None, connection=None):
  """(status, object or text, headers) of an answer."""
  method = method or ('GET' if body is None else 'POST')
  used = connection or running.connection()
  try:
    used.request(method, path, body, headers or {})
    answer = used.getresponse()
    content = answer.read().decode()
  finally:
    if connection is None:
      used.close()
  if answer.getheader('content-type', '').startswith('application/json'):
    content = json.loads(content)
  return answer.status, content, answer.headers
