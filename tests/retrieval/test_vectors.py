"""Indices of vectors against brute force; damaged files are refused."""

import sys

import numpy as np
import pytest

from fld_jax.errors import InputError
from fld_jax.retrieval import vectors
from fld_jax.retrieval.vectors import Vectors, write

RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def _faiss():
  pytest.importorskip('faiss')


def units(n, d=24):
  x = RNG.normal(size=(n, d)).astype(np.float32)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_exact_search_is_brute_force(tmp_path):
  x, queries = units(500), units(20)
  about = write(x, tmp_path / 'a')
  assert about['kind'] == 'exact' and about['count'] == 500
  cosines, places = Vectors(tmp_path / 'a', about).search(queries, 7)
  wanted = queries.astype(np.float64) @ x.T.astype(np.float64)
  np.testing.assert_array_equal(places, np.argsort(-wanted, axis=1)[:, :7])
  np.testing.assert_allclose(
    cosines, np.sort(wanted, axis=1)[:, ::-1][:, :7], atol=1e-5
  )


def test_fewer_than_asked_for(tmp_path):
  about = write(units(3), tmp_path / 'a')
  cosines, places = Vectors(tmp_path / 'a', about).search(units(2), 10)
  assert places.shape == cosines.shape == (2, 3)


def test_inverted_file_finds_what_is_in_it(tmp_path):
  x = units(3000)
  about = write(x, tmp_path / 'a', exact_vectors=100)
  assert about['kind'] == 'inverted'
  cosines, places = Vectors(tmp_path / 'a', about).search(x, 3)
  assert places[:, 0].tolist() == [*range(3000)]
  wanted = (x[:200] @ x.T).astype(np.float64)
  best = np.argsort(-wanted, axis=1)[:, :3]
  hits = [len({*a} & {*b}) for a, b in zip(best, places[:200], strict=True)]
  assert 200 < sum(hits) < 600  # itself always, of the others some
  for i, row in enumerate(places[:200]):  # what it finds has its true cosine
    there = row >= 0
    np.testing.assert_allclose(
      cosines[i, there], wanted[i, row[there]], atol=1e-5
    )


@pytest.mark.parametrize('kind', ['cut', 'flipped', 'missing', 'other'])
def test_damage_is_refused(tmp_path, kind):
  path = tmp_path / 'a'
  about = write(units(50), path)
  content = bytearray(path.read_bytes())
  if kind == 'cut':
    path.write_bytes(content[:-10])
  elif kind == 'flipped':
    content[-5] ^= 4
    path.write_bytes(content)
  elif kind == 'missing':
    path.unlink()
  else:
    write(units(50), path)
  word = {'cut': 'has .* bytes, must', 'missing': 'is missing'}
  with pytest.raises(InputError, match=word.get(kind, 'SHA-256 differs')):
    Vectors(path, about)


def test_another_count_is_refused(tmp_path):
  about = write(units(50), tmp_path / 'a')
  with pytest.raises(InputError, match='holds 50 vectors of 24 numbers'):
    Vectors(tmp_path / 'a', {**about, 'count': 49})


def test_a_file_that_is_no_index(tmp_path):
  about = write(units(50), tmp_path / 'a')
  (tmp_path / 'a').write_bytes(b'x' * 100)
  about['bytes'] = 100
  about['sha256'] = vectors._digest(tmp_path / 'a')
  with pytest.raises(InputError, match='no index that faiss reads'):
    Vectors(tmp_path / 'a', about)


def test_without_faiss(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'faiss', None)
  with pytest.raises(InputError, match=r"pip install 'fld_jax\[retrieval\]'"):
    vectors.check_installed()
  with pytest.raises(InputError, match='not installed'):
    write(units(3), tmp_path / 'a')
