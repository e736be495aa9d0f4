"""The notebook runs from top to bottom, on a quickstart's workdir."""

import shutil

import nbclient
import nbformat
from places import ROOT

NOTEBOOK = ROOT / 'launch/colab_eval.ipynb'


def texts(cell):
  outputs = cell.get('outputs', [])
  return ''.join(output.get('text', '') for output in outputs)


def pictures(cell):
  return [
    o for o in cell.get('outputs', []) if 'image/png' in o.get('data', {})
  ]


def test_no_outputs_are_committed():
  for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
    if cell.cell_type == 'code':
      assert cell.outputs == [] and cell.execution_count is None


def test_top_to_bottom(
  trained_workdir, synthetic_builder, tmp_path, monkeypatch
):
  shutil.copytree(trained_workdir, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run/eval')
  record = synthetic_builder.as_data_source('test', decoders=None)[0]
  from PIL import Image

  Image.fromarray(record['image']).save(tmp_path / 'photo.png')
  monkeypatch.setenv('FLD_WORKDIR', str(tmp_path / 'run'))
  monkeypatch.setenv('FLD_IMAGE', str(tmp_path / 'photo.png'))
  # This checkout, whatever is installed.
  monkeypatch.setenv('PYTHONPATH', str(ROOT))
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  client = nbclient.NotebookClient(
    notebook, timeout=300, resources={'metadata': {'path': NOTEBOOK.parent}}
  )
  client.execute()
  code = [cell for cell in notebook.cells if cell.cell_type == 'code']
  assert any('NE of visible landmarks' in texts(cell) for cell in code)
  assert (tmp_path / 'run/eval/test/report.html').exists()
  shown = [len(pictures(cell)) for cell in code]
  # Overlays; the clusters of three stages; a choice; one's own image.
  assert shown[-4] == 1 and shown[-3] == 3 and shown[-1] == 1
  assert 'collar_left' in texts(code[-1])
