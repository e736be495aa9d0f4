"""benchmarks/robustness.py sees what its rows must not pass by."""

import json
import subprocess
import sys

import pytest
from places import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))
import robustness  # noqa: E402

sys.path.pop(0)

# What a program in place of ours does -> what is to be found.
PROGRAMS = {
  'pass': [],
  'raise ValueError("no")': ['traceback', 'status'],
  'raise SystemExit(2)': ['status'],
  'import time; time.sleep(60)': ['hang', 'status'],
  'open(f"{base}/victim/mine", "w").write("x")': ['touched outside'],
  'open(f"{base}/victim/new", "w").write("x")': ['touched outside'],
  'import os; os.remove(f"{base}/victim/mine")': ['touched outside'],
  'import os; os.mkdir(f"{base}/victim/a"); os.rmdir(f"{base}/victim/a")': [
    'touched outside'
  ],
  'open("here", "w").write("x")': ['touched outside'],
  'import tempfile; tempfile.mkdtemp()': ['touched outside'],
  'import tempfile; tempfile.TemporaryFile().close()': [],
}


@pytest.mark.parametrize('program', PROGRAMS)
def test_what_a_call_does_is_seen(program, tmp_path, monkeypatch):
  def start(argv, here, environ, out, err, unprivileged):
    script = f'base = {str(tmp_path)!r}\n{program}'
    return subprocess.Popen(
      [sys.executable, '-c', script],
      cwd=here,
      env=environ,
      stdout=out,
      stderr=err,
      start_new_session=True,
    )

  monkeypatch.setattr(robustness, '_started', start)
  (tmp_path / 'victim').mkdir()
  (tmp_path / 'victim/mine').write_text('mine')
  lab = robustness.Lab(tmp_path, tmp_path / 'run')
  lab.expect(lab.call('--mode=predict', limit=2), 0)
  assert [kind for kind, _ in lab.problems] == PROGRAMS[program]


@pytest.mark.parametrize(
  ('found', 'failed', 'lines', 'right'),
  [
    ('ab', 'c', 2, True),
    ('ab', 'c', 1, False),
    ('a', 'c', 1, False),
    ('aab', 'c', 3, False),
    ('abc', '', 3, False),
    ('abd', 'c', 3, False),
  ],
)
def test_lost_items_are_seen(found, failed, lines, right, tmp_path):
  lab = robustness.Lab(tmp_path, tmp_path / 'run')
  output = lab.output()
  output.mkdir()
  images = [{'id': i, 'file_name': name} for i, name in enumerate('abcd')]
  items = [{'image_id': 'abcd'.index(name)} for name in found]
  content = json.dumps({'images': images, 'annotations': items})
  (output / 'predictions.json').write_text(content)
  (output / 'predictions.csv').write_text('\n'.join(['image', *found[:lines]]))
  (output / 'failures.csv').write_text('\n'.join(['image', *failed]))
  lab.results(output, 'ab', 'c', overlays=False)
  assert bool(lab.problems) != right
