"""Data sets on full and read-only disks: one sentence, and what was found."""

import shutil

import pytest
import small_disks

from fld_jax.datasets import prepare
from fld_jax.doctor import examine
from fld_jax.errors import Unwritable


@pytest.mark.parametrize('disk', ['full', 'read-only'])
def test_the_doctor_shows_what_it_found(fashion, capsys, disk):
  config, _ = fashion
  with small_disks.small_disk() as small:
    place = small.mount(1, *(['ro'] if disk == 'read-only' else []))
    if disk == 'full':
      small.fill()
    words = f'^{place}/found: the findings could not be written '
    with pytest.raises(Unwritable, match=words):
      examine.examine(config, place / 'found')
    assert not list(place.rglob('*.tmp'))
  assert '3 rows of 3 images' in capsys.readouterr().out


@pytest.mark.parametrize('left', [0, 30_000, None])
def test_preparing_ends_in_a_sentence_and_goes_on(fashion, left):
  """The disk is full at once, while records are written; or read-only."""
  config, _ = fashion
  shutil.rmtree(config.data_dir, ignore_errors=True)
  with small_disks.small_disk() as small:
    config.data_dir = str(small.mount(1, *(['ro'] if left is None else [])))
    filler = small.fill(left) if left is not None else None
    words = f'data_dir={config.data_dir}: the records of deepfashion could not'
    with pytest.raises(Unwritable, match=words):
      prepare.prepare(config)
    if filler:
      filler.unlink()
      found = prepare.prepare(config)
      assert sum(found['splits'].values()) == 3
