"""The launchers: what their dry runs print, and what they do with stand-ins.

`gcloud`, `srun` and so on are stand-ins that note how they are called; the
programs that they start are scripts of a few lines.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time

import pytest
import yaml
from places import ROOT

LAUNCH = ROOT / 'launch'
SCRIPTS = sorted([*LAUNCH.glob('*.sh'), *LAUNCH.glob('*.sbatch')])
ARGS = ['--config=configs/dfa.py:dataset=fld,size=full', '--workdir=/nfs/a b']
AGAIN = 75  # EX_TEMPFAIL


def write_script(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)
  return path


def python_script(path, text):
  return write_script(path, f'#!{sys.executable} -S\n{text}')


@pytest.fixture
def tools(tmp_path):
  """Environment whose clusters' commands only write into the file `calls`."""
  calls = tmp_path / 'calls'
  for name in ('gcloud', 'kubectl', 'srun', 'squeue', 'scontrol', 'scancel'):
    write_script(
      tmp_path / 'bin' / name,
      f'#!/bin/bash\necho "{name} $*" >>{calls}\n'
      f'echo "${{ANSWER_{name}:-}}"\nexit "${{CODE_{name}:-0}}"\n',
    )
  environ = {k: v for k, v in os.environ.items() if not k.startswith('SLURM')}
  environ['PATH'] = f'{tmp_path}/bin:{environ["PATH"]}'
  return environ, calls


@pytest.fixture
def checkout(tmp_path):
  """A copy of launch/ that nothing is installed beside."""
  shutil.copytree(LAUNCH, tmp_path / 'top' / 'launch')
  return tmp_path / 'top'


def call(script, *args, environ=None, check=0, **more):
  done = subprocess.run(
    ['bash', script, *args],
    env=environ or os.environ,
    capture_output=True,
    text=True,
    timeout=60,
    **more,
  )
  assert done.returncode == check, done.stderr
  return done


@pytest.fixture
def dry(tools, checkout):
  """dry(script, ...) -> lines of words of a dry run, which does nothing."""
  environ, calls = tools

  def run(script, *args, **variables):
    before = sorted(checkout.rglob('*'))
    done = call(
      checkout / 'launch' / script,
      *args,
      environ={**environ, 'DRY_RUN': '1', **variables},
    )
    assert not calls.exists()
    assert sorted(checkout.rglob('*')) == before
    return done.stdout

  return run


def test_scripts_are_shellcheck_clean():
  shellcheck = pathlib.Path(sysconfig.get_path('scripts')) / 'shellcheck'
  assert len(SCRIPTS) >= 7
  done = subprocess.run(
    [shellcheck, *SCRIPTS, ROOT / '.ci' / 'run'],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stdout + done.stderr


# --- the tests ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    ((), '-n 3 --dist=loadfile --no-loadscope-reorder'),
    (
      ('-q', '-k', 'name'),
      '-n 3 --dist=loadfile --no-loadscope-reorder -q -k name',
    ),
    (
      ('--deselect=tests/test_a.py::test_b',),
      '-n 3 --dist=loadfile --no-loadscope-reorder'
      ' --deselect=tests/test_a.py::test_b',
    ),
    (
      ('-n', '8'),
      '-n 3 --dist=loadfile --no-loadscope-reorder -n 8',
    ),  # the last one counts
    (('tests', '-q'), '-n 0 tests -q'),
    (
      ('-q', 'tests/test_a.py::test_b[1]'),
      '-n 0 -q tests/test_a.py::test_b[1]',
    ),
    (('--pdb',), '-n 0 --pdb'),
    (('-s',), '-n 0 -s'),
    (('tests', '-n', '8'), '-n 0 tests -n 8'),
  ],
)
def test_all_tests_run_in_three_processes_and_named_ones_in_one(
  checkout, arguments, expected
):
  for name in ('pyproject.toml', 'constraints.txt'):
    shutil.copy(ROOT / name, checkout)
  for tool in ('python', 'ruff'):
    write_script(
      checkout / '.venv/bin' / tool, f'#!/bin/bash\necho {tool} "$@"\n'
    )
  (checkout / 'tests').mkdir()
  (checkout / 'tests/test_a.py').touch()
  lines = call(checkout / 'launch/test.sh', *arguments).stdout.splitlines()
  assert lines[-3:] == [
    'ruff check .',
    'ruff format --check .',
    f'python -m pytest {expected}',
  ]


# --- the environment ----------------------------------------------------------

# Like Python as far as environment.sh asks: its version, or that it can make no
# environment; `-m venv` writes which Python made it.
PYTHON = """#!/bin/bash
case "$1 $2" in
  -c*sys.argv*) [ "$3" = {version} ] ;;
  -c*) [ {version} != 3.10 ] ;;
  '-m venv')
    mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "$0" >"$3/by" ;;
  '-m pip') echo "$@" >>"${{0%/bin/*}}/pip" ;;
esac
"""
BROKEN = '#!/bin/bash\necho "pyenv: command not found" >&2; exit 127\n'


@pytest.fixture
def make_environment(checkout, tmp_path):
  """make(versions by name, ...) -> the Python that made .venv, and stderr."""
  for name in ('pyproject.toml', 'constraints.txt'):
    shutil.copy(ROOT / name, checkout)
  tools = 'bash cat cksum cp cut dirname head ldconfig mkdir sed touch'
  for tool in tools.split():
    (tmp_path / 'bin').mkdir(exist_ok=True)
    (tmp_path / 'bin' / tool).symlink_to(shutil.which(tool))

  def make(versions, check=0, **environ):
    for name, version in versions.items():
      text = PYTHON.format(version=version) if version else BROKEN
      write_script(tmp_path / name, text)
    environ = {'PATH': f'{tmp_path}/bin', 'HOME': str(tmp_path), **environ}
    script = 'set -euo pipefail; source launch/environment.sh; environment dev'
    done = call('-c', script, environ=environ, check=check, cwd=checkout)
    made = checkout / '.venv' / 'by'
    by = made.exists() and made.read_text().strip()
    return by and os.path.relpath(by, tmp_path), done.stderr

  return make


PYENV = '.pyenv/versions/3.12.1/bin/python'


@pytest.mark.parametrize(
  'versions, chosen',
  [
    ({'bin/python3': '3.11', 'bin/python3.12': '3.12'}, 'bin/python3.12'),
    ({'bin/python3': '3.12', 'bin/python3.12': None}, 'bin/python3'),
    ({'bin/python3': '3.11', 'bin/python3.12': None, PYENV: '3.12'}, PYENV),
  ],
)
def test_environment_prefers_the_tested_python(
  make_environment, versions, chosen
):
  by, err = make_environment(versions)
  assert by == chosen and 'no Python' not in err


def test_environment_takes_another_python_and_says_so(make_environment):
  by, err = make_environment({'bin/python3': '3.11', 'bin/python3.12': None})
  assert by == 'bin/python3'
  assert 'There is no Python 3.12' in err and '3.11 will do' in err


def test_environment_takes_the_python_that_is_asked_for(make_environment):
  versions = {'bin/python3.12': '3.12', 'bin/python3.13': '3.13'}
  by, _ = make_environment(versions, PYTHON='python3.13')
  assert by == 'bin/python3.13'


@pytest.mark.parametrize('asked', ['', 'python3', 'no_python'])
def test_environment_wants_a_python_that_will_do(make_environment, asked):
  by, err = make_environment({'bin/python3': '3.10'}, check=2, PYTHON=asked)
  assert not by and 'error: ' in err and '3.11' in err


def test_environment_installs_once(make_environment, checkout):
  for _ in range(2):
    make_environment({'bin/python3.12': '3.12'})
  (command,) = (checkout / '.venv' / 'pip').read_text().splitlines()
  assert f'--constraint {checkout}/constraints.txt' in command
  assert command.endswith(f'--editable {checkout}[dev]')


# --- processes on one machine -------------------------------------------------


def test_local_processes_dry_run(dry):
  lines = dry('local_processes.sh', '3', *ARGS, DEVICES='2').splitlines()
  coordinators = set()
  for i, line in enumerate(lines):
    words = shlex.split(line)
    assert 'JAX_NUM_CPU_DEVICES=2' in words
    start = words.index('-m')
    assert words[start : start + 4] == ['-m', 'fld_jax.main', *ARGS]
    coordinator, *rest = words[start + 4 :]
    coordinators.add(coordinator)
    assert rest == ['--num_processes=3', f'--process_id={i}']
  assert len(lines) == 3 and len(coordinators) == 1
  assert re.fullmatch(r'--coordinator=127\.0\.0\.1:\d{5}', *coordinators)


@pytest.mark.parametrize('count', ['', '0', 'two', '-1'])
def test_local_processes_wants_a_number(count):
  done = call(LAUNCH / 'local_processes.sh', count, '--workdir=w', check=2)
  assert 'usage' in done.stderr


# Its flags name a signal and a code for each process: `--do=ID:WHAT`.
PROGRAM = """
import os, signal, sys, time
me = [a for a in sys.argv if a.startswith('--process_id=')][0][-1]
todo = dict(a[5:].split(':') for a in sys.argv if a.startswith('--do='))
what = todo.get(me, 'wait')
def ended(number, frame):
  print('signal', number, flush=True)
  sys.exit(75)
if what == 'ignore':
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif what == 'save':
  signal.signal(signal.SIGTERM, ended)
  signal.signal(signal.SIGINT, ended)
print('devices', os.environ['JAX_NUM_CPU_DEVICES'], 'pid', os.getpid(),
      flush=True)
ready = os.path.dirname(__file__) + '/ready'
os.makedirs(ready, exist_ok=True)
open(f'{ready}/{me}', 'w').close()
count = [a for a in sys.argv if a.startswith('--num_processes=')][0][16:]
while len(os.listdir(ready)) < int(count):
  time.sleep(0.05)
if what.isdigit():
  sys.exit(int(what))
time.sleep(60)
"""


def start_processes(tmp_path, count, *do, **variables):
  program = python_script(tmp_path / 'program', PROGRAM)
  return subprocess.Popen(
    [LAUNCH / 'local_processes.sh', str(count), *(f'--do={x}' for x in do)],
    env={**os.environ, 'FLD_PYTHON': str(program), **variables},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # A shell that starts the tests in the background ignores SIGINT, and what
    # is ignored at the start no script can catch.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )


def finish(launcher, started, limit=15):
  out, err = launcher.communicate(timeout=60)
  assert time.monotonic() - started < limit
  # Nothing stays: neither running nor as a zombie.
  pids = re.findall(r'pid (\d+)', out)
  assert not [pid for pid in pids if os.path.exists(f'/proc/{pid}')]
  return launcher.returncode, out, err


@pytest.mark.parametrize(
  'do, code',
  [
    (('0:0', '1:0', '2:0'), 0),
    (('0:save', '1:7', '2:wait'), 7),
    (('0:2', '1:0', '2:wait'), 2),
    (('0:75', '1:75', '2:75'), AGAIN),
    (('0:0', '1:75', '2:0'), AGAIN),
  ],
)
def test_local_processes_exit_code(tmp_path, do, code):
  started = time.monotonic()
  launcher = start_processes(tmp_path, 3, *do, DEVICES='4')
  returned, out, _ = finish(launcher, started)
  assert returned == code
  for i in range(3):
    assert f'[{i}] devices 4 ' in out


def test_local_processes_kill_what_does_not_end(tmp_path):
  started = time.monotonic()
  launcher = start_processes(tmp_path, 2, '0:ignore', '1:9', GRACE='1')
  returned, _, err = finish(launcher, started)
  assert returned == 9
  assert 'killed: 0.' in err


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_local_processes_pass_signals_on(tmp_path, number):
  launcher = start_processes(tmp_path, 2, '0:save', '1:save')
  for _ in range(2):
    assert 'devices 1' in launcher.stdout.readline()
  started = time.monotonic()
  launcher.send_signal(number)
  returned, out, _ = finish(launcher, started)
  assert returned == AGAIN
  for i in range(2):
    assert out.count(f'[{i}] signal {int(number)}\n') == 1


# --- SLURM --------------------------------------------------------------------


def test_slurm_dry_run(dry):
  sbatch, srun, again = dry('slurm.sbatch', *ARGS).splitlines()
  options = shlex.split(sbatch)
  assert options[0] == 'sbatch'
  assert options[-3:] == ['launch/slurm.sbatch', *ARGS]
  given = dict(word[2:].partition('=')[::2] for word in options[1:-3])
  assert given['ntasks-per-node'] == given['gpus-per-node']  # jax.distributed
  assert 'requeue' in given and given['open-mode'] == 'append'
  assert re.fullmatch(r'B:TERM@\d+', given['signal'])
  words = shlex.split(srun.partition(': ')[2])
  assert words[0] == 'srun' and '--gpu-bind=none' in words
  assert '--kill-on-bad-exit=0' in words
  assert words[words.index('-m') :] == [
    '-m',
    'fld_jax.main',
    *ARGS,
    '--distributed',
  ]
  assert again == 'on exit code 75: scontrol requeue JOB'


@pytest.mark.parametrize(
  'code, state, requeued',
  [
    (0, 'RUNNING', False),
    (AGAIN, 'RUNNING', True),
    (AGAIN, 'COMPLETING', False),  # by scancel
    (2, 'RUNNING', False),
    (137, 'RUNNING', False),
  ],
)
def test_slurm_requeue(tools, tmp_path, code, state, requeued):
  environ, calls = tools
  call(
    shutil.copy(LAUNCH / 'slurm.sbatch', tmp_path / 'slurm_script'),
    *ARGS,
    environ={
      **environ,
      'SLURM_SUBMIT_DIR': str(ROOT),
      'SLURM_JOB_ID': '17',
      'FLD_PYTHON': 'python',
      'CODE_srun': str(code),
      'ANSWER_squeue': state,
    },
    check=code,
  )
  lines = calls.read_text().splitlines()
  assert lines[0].startswith('srun ')
  assert ('scontrol requeue 17' in lines) == requeued


def test_slurm_hands_the_signal_to_the_steps(tools, tmp_path):
  environ, calls = tools
  # srun ends with 75 when scancel has been called.
  write_script(
    tmp_path / 'bin' / 'srun',
    f'#!/bin/bash\necho srun >>{calls}\n'
    f'until grep -q scancel {calls}; do sleep 0.1; done; sleep 0.5; exit 75\n',
  )
  job = subprocess.Popen(
    ['bash', LAUNCH / 'slurm.sbatch', *ARGS],
    env={
      **environ,
      'SLURM_SUBMIT_DIR': str(ROOT),
      'SLURM_JOB_ID': '17',
      'FLD_PYTHON': 'python',
      'ANSWER_squeue': 'RUNNING',
    },
  )
  while not (calls.exists() and 'srun' in calls.read_text()):
    time.sleep(0.05)
  job.terminate()
  assert job.wait(timeout=30) == AGAIN
  assert calls.read_text().splitlines()[1:] == [
    'scancel --signal=TERM 17',
    'squeue --noheader --jobs=17 --format=%T',
    'scontrol requeue 17',
  ]


def test_slurm_wants_the_checkout(tools, tmp_path):
  environ, calls = tools
  environ = {**environ, 'SLURM_SUBMIT_DIR': str(tmp_path)}
  done = call(LAUNCH / 'slurm.sbatch', *ARGS, environ=environ, check=2)
  assert str(tmp_path) in done.stderr and not calls.exists()


# --- Cloud TPU ----------------------------------------------------------------

SLICE = ['--name=pod', '--zone=us-west4-a']


@pytest.mark.parametrize(
  'command, options, args, verbs',
  [
    ('create', ['--type=v5litepod-256', '--spot'], [], ['create']),
    ('copy', [], [], ['scp', 'ssh']),
    ('run', [], ARGS, ['ssh']),
    ('logs', ['--worker=3'], [], ['ssh']),
    ('status', [], [], ['list', 'ssh']),
    (
      'resume',
      ['--type=v5litepod-256', '--spot'],
      ARGS,
      ['list', 'ssh', 'delete', 'create', 'scp', 'ssh', 'ssh'],
    ),
    ('delete', [], [], ['delete']),
  ],
)
def test_tpu_pod_dry_run(dry, command, options, args, verbs):
  more = ['--', *args] if args else []
  project = ['--project=p'] if command == 'run' else []
  out = dry('tpu_pod.sh', command, *SLICE, *project, *options, *more)
  # What is printed are commands of a shell, which splits them into words.
  words = 'tar() { :; }; gcloud() { printf "%s\\0" gcloud "$@" END; }\n'
  done = subprocess.run(['bash', '-c', words + out], capture_output=True)
  lines = done.stdout.decode().split('END\0')
  assert not done.returncode and not lines.pop()
  lines = [line.split('\0')[:-1] for line in lines]
  assert [words[4] for words in lines] == verbs
  for words in lines:
    assert words[:4] == ['gcloud', 'compute', 'tpus', 'tpu-vm']
    assert words[-len(project) - 1 :] == ['--zone=us-west4-a', *project]
    if words[4] == 'list':
      assert '--filter=name~(^|/)pod$' in words
    else:
      assert 'pod' in words or 'pod:' in words
    if words[4] in ('ssh', 'scp'):
      worker = '--worker=3' if command == 'logs' else '--worker=all'
      assert worker in words
    if words[4] == 'create':
      assert {'--accelerator-type=v5litepod-256', '--spot'} <= set(words)
    if words[4] == 'delete':
      assert '--quiet' in words
    if command == 'run':
      (script,) = [word for word in words if word.startswith('--command=')]
      assert './launch/local.sh --distributed' in script


@pytest.mark.parametrize(
  'command, message',
  [
    (['create', *SLICE], '--type'),
    (['run', *SLICE], 'ARGS'),
    (['status', '--name=pod'], '--zone'),
    (['status', *SLICE, '--zones=x'], '--zones=x'),
    (['destroy', *SLICE], "'destroy' is no command"),
  ],
)
def test_tpu_pod_mistakes(tools, command, message):
  environ, calls = tools
  done = call(LAUNCH / 'tpu_pod.sh', *command, environ=environ, check=2)
  assert message in done.stderr and not calls.exists()


# A slice of two workers, whose homes are folders. It is preempted where the
# program has asked for that.
GCLOUD = """
import os, pathlib, shutil, subprocess, sys
cloud = pathlib.Path(os.environ['CLOUD'])
verb, words = sys.argv[4], sys.argv[5:]
with open(cloud / 'verbs', 'a') as file:
  print(verb, file=file)
homes = [cloud / 'worker0', cloud / 'worker1']
if verb == 'create':
  if not (cloud / 'full').exists():  # no capacity, the first time
    sys.exit((cloud / 'full').touch() or 1)
  for home in homes:
    home.mkdir()
elif verb == 'delete':
  (cloud / 'preempted').unlink()
  for home in homes:
    shutil.rmtree(home)
elif verb == 'list':
  if homes[0].exists():
    print('PREEMPTED' if (cloud / 'preempted').exists() else 'READY')
elif verb == 'scp':
  for home in homes:
    shutil.copy(words[0], home)
elif (cloud / 'preempted').exists():
  sys.exit(255)
elif verb == 'ssh':
  script = [w for w in words if w.startswith('--command=')][0][10:]
  codes = [subprocess.run(['bash', '-c', script], cwd=home,
                          env={**os.environ, 'HOME': str(home)}).returncode
           for home in homes]
  sys.exit(max(codes))
"""
# Each worker counts its starts beside the slice, and ends with what CODES says
# for this one; P is a preemption.
WORKER = """#!/bin/bash
echo "$EXTRAS $*" >>"$CLOUD/${HOME##*/}.starts"
code=$(cut -d' ' -f"$(wc -l <"$CLOUD/${HOME##*/}.starts")" <<<"$CODES")
if [ "$code" = P ]; then
  if [ "${HOME##*/}" = worker1 ]; then
    until [ "$(wc -l <"$CLOUD/worker0.starts")" = 2 ]; do sleep 0.1; done
    touch "$CLOUD/preempted"
  fi
  kill -KILL $PPID
  sleep 1
fi
exit "$code"
"""


@pytest.mark.parametrize(
  'codes, code, creates', [('75 P 75 0', 0, 3), ('75 2', 2, 2), ('9', 9, 2)]
)
def test_tpu_pod_resume(tools, checkout, tmp_path, codes, code, creates):
  environ, _ = tools
  python_script(tmp_path / 'bin' / 'gcloud', GCLOUD)
  write_script(tmp_path / 'bin' / 'sudo', '#!/bin/bash\necho "$@" >>apt\n')
  write_script(checkout / 'launch' / 'local.sh', WORKER)
  write_script(
    checkout / 'launch' / 'environment.sh',
    'choose_python() { return 2; }\nenvironment() { echo "$1" >>installed; }\n',
  )
  cloud = tmp_path / 'cloud'
  cloud.mkdir()
  call(
    checkout / 'launch' / 'tpu_pod.sh',
    'resume',
    *SLICE,
    '--type=v5litepod-8',
    "--setup=touch 'mount ed'",
    '--',
    *ARGS,
    environ={
      **environ,
      'CLOUD': str(cloud),
      'CODES': codes,
      'WATCH_SECONDS': '0.3',
    },
    check=code,
  )
  verbs = (cloud / 'verbs').read_text().split()
  assert verbs.count('create') == creates
  assert verbs.count('delete') == creates - 2
  for worker in ('worker0', 'worker1'):
    starts = (cloud / f'{worker}.starts').read_text().splitlines()
    assert starts == [f'tpu --distributed {" ".join(ARGS)}'] * len(
      codes.split()
    )
    top = cloud / worker / 'fld_jax'
    assert (top / 'mount ed').exists()
    assert (top / 'apt').read_text().splitlines() == [
      'apt-get update -q',
      'apt-get install -yq python3.11-venv',
    ]
    assert (top / 'installed').read_text() == 'tpu\n'


# --- Kubernetes ---------------------------------------------------------------

JOB = ['--name=dfa', '--image=registry/fld_jax:1', '--claim=shared']
TPU = ['--tpu=tpu-v5-lite-podslice', '--topology=16x16', '--spot']
GPU = ['--gpu=nvidia-h100-80gb', '--nodes=4', '--max_restarts=7']


@pytest.mark.parametrize(
  'options, nodes, restarts, limits, selector, flags',
  [
    (
      TPU,
      64,
      3,
      {'google.com/tpu': 4},
      {
        'cloud.google.com/gke-tpu-accelerator': 'tpu-v5-lite-podslice',
        'cloud.google.com/gke-tpu-topology': '16x16',
        'cloud.google.com/gke-spot': 'true',
      },
      ['--distributed'],
    ),
    (
      GPU,
      4,
      7,
      {'nvidia.com/gpu': 8},
      {'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'},
      [
        '--coordinator=dfa-worker-0-0.dfa:8476',
        '--num_processes=4',
        '--process_id=$(JOB_COMPLETION_INDEX)',
      ],
    ),
  ],
)
def test_gke_jobset(dry, options, nodes, restarts, limits, selector, flags):
  args = [*ARGS, '--note="a\\b" & ${NAME} $(HOME)']
  out = dry('gke_jobset.sh', *JOB, *options, '--', *args)
  jobset = yaml.safe_load(out)
  assert jobset['metadata']['name'] == 'dfa'
  (replicated,) = jobset['spec']['replicatedJobs']
  # The coordinator's host: JOBSET-REPLICATED_JOB-JOB-POD.JOBSET.
  assert replicated['name'] == 'worker' and replicated['replicas'] == 1
  job = replicated['template']['spec']
  assert job['completionMode'] == 'Indexed' and job['backoffLimit'] == 0
  assert job['completions'] == job['parallelism'] == nodes
  pod = job['template']['spec']
  assert pod['restartPolicy'] == 'Never' and pod['nodeSelector'] == selector
  (container,) = pod['containers']
  assert container['resources']['limits'] == limits
  # Kubernetes makes $(NAME) of $$(NAME).
  given = [arg.replace('$$(', '$(') for arg in container['args'][:-1]]
  given.append(container['args'][-1])
  assert given == [*args, *flags]
  (claim,) = [v for v in pod['volumes'] if v['name'] == 'data']
  assert claim['persistentVolumeClaim']['claimName'] == 'shared'
  assert {m['mountPath'] for m in container['volumeMounts']} >= {'/data'}
  # What the JobSet does after each way to end, as its controllers match rules.
  assert jobset['spec']['failurePolicy']['maxRestarts'] == restarts
  again, stay = 'RestartJobSetAndIgnoreMaxRestarts', 'FailJobSet'
  assert _action(jobset, code=AGAIN) == again
  assert _action(jobset, condition='DisruptionTarget') == again
  assert _action(jobset, code=2) == stay
  assert _action(jobset, code=1) == _action(jobset, code=137) == 'RestartJobSet'


def _action(jobset, code=1, condition=None):
  job = jobset['spec']['replicatedJobs'][0]['template']['spec']
  main = job['template']['spec']['containers'][0]['name']
  reason, message = 'BackoffLimitExceeded', 'Job has reached its limit'
  for index, rule in enumerate(job['podFailurePolicy']['rules']):
    assert rule['action'] == 'FailJob'
    codes = rule.get('onExitCodes', {'values': []})
    assert codes.get('containerName', main) == main
    conditions = [
      (c['type'], c['status']) for c in rule.get('onPodConditions', [])
    ]
    if code in codes['values'] or (condition, 'True') in conditions:
      reason = 'PodFailurePolicy'
      message = f'Pod default/x failed, matching FailJob rule at index {index}'
      break
  for rule in jobset['spec']['failurePolicy']['rules']:
    patterns = rule['onJobFailureMessagePatterns']
    if reason in rule['onJobFailureReasons'] and any(
      re.search(pattern, message) for pattern in patterns
    ):
      return rule['action']
  return 'RestartJobSet'


def test_gke_jobset_applies_what_it_prints(tools, dry, tmp_path):
  environ, _ = tools
  write_script(
    tmp_path / 'bin' / 'kubectl',
    f'#!/bin/bash\n[ "$*" = "apply -f -" ] && cat >{tmp_path}/applied\n',
  )
  args = [*JOB, *GPU, '--', *ARGS]
  call(LAUNCH / 'gke_jobset.sh', *args, environ=environ)
  printed = yaml.safe_load(dry('gke_jobset.sh', *args))
  assert yaml.safe_load((tmp_path / 'applied').read_text()) == printed


def test_gke_jobset_documents_its_variables():
  text = (LAUNCH / 'gke_jobset.yaml').read_text()
  comment = text[: text.index('apiVersion')]
  documented = re.findall(r'^#   ([A-Z_]+) ', comment, re.M)
  used = re.findall(r'\$\{(\w+)\}', text)
  assert documented and set(documented) == set(used)


@pytest.mark.parametrize(
  'options, message',
  [
    (TPU[:1], '--topology'),
    ([*TPU, *GPU], 'either'),
    (['--tpu=x', '--topology=4'], "'4'"),
    (['--tpu=x', '--topology=3x1'], 'multiple'),
  ],
)
def test_gke_jobset_mistakes(tools, options, message):
  environ, calls = tools
  done = call(
    LAUNCH / 'gke_jobset.sh',
    *JOB,
    *options,
    '--',
    *ARGS,
    environ=environ,
    check=2,
  )
  assert message in done.stderr and not calls.exists()


def test_dockerfile():
  text = (ROOT / 'Dockerfile').read_text()
  steps = [line.split(None, 1) for line in text.splitlines() if line[:1] > '@']
  values = {word: value for word, value in steps}
  assert re.fullmatch(r'python:3\.\d+-slim', values['FROM'])
  assert [word for word, _ in steps].index('USER') > max(
    i for i, (word, _) in enumerate(steps) if word in ('COPY', 'RUN')
  )
  assert values['USER'] not in ('0', 'root')
  assert values['ARG'].startswith('EXTRAS=') and '[$EXTRAS]' in text
  # As a list: a shell would be process 1 and keep SIGTERM.
  assert json.loads(values['ENTRYPOINT']) == ['python', '-m', 'fld_jax.main']
  ignored = (ROOT / '.dockerignore').read_text().split()
  assert {'.git', '.venv', 'shared', 'runs'} <= set(ignored)
