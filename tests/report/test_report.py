"""What a report says, against loops over the same predictions."""

import csv
import io
import json
import logging
import pathlib
import re
import shutil
import tomllib

import cv2
import numpy as np
import pytest
from made_up_runs import OWN, loop_errors, make_run
from places import ROOT

from fld_jax import landmark_sets, schema
from fld_jax.errors import InputError
from fld_jax.evaluation import analysis, evaluated_run, mean_images, results
from fld_jax.evaluation.analysis import analyse, confusion, kept_ne
from fld_jax.evaluation.calibration import Calibration, Identity
from fld_jax.evaluation.networks import Networks
from fld_jax.metrics import normalised_error
from fld_jax.papers import published
from fld_jax.report import content, gallery, report, sections, sentences
from fld_jax.report.render import Content, page, table_html
from fld_jax.report.table import Row, Table
from fld_jax.visualization import curves, error_plots


@pytest.fixture(scope='module')
def run():
  return make_run()


@pytest.fixture(scope='module')
def facts(run):
  return analyse([run])


def read_csv(table):
  return list(csv.reader(io.StringIO(table.csv())))


def percent(values):
  return f'{100 * np.mean(values):.2f}'


def of(errors, mask=slice(None)):
  """Macro NE of some images."""
  part = errors[mask]
  return percent([x[np.isfinite(x)].mean() for x in part.T])


# --- tables -------------------------------------------------------------------


def test_table_formats_have_the_same_cells():
  rows = [
    Row(('50% of_{x} & "y",\n~^\\#$', 0.12345, None, '1,000'), 'final'),
    Row(('<b>', -0.5, 3, 'é'), 'paper'),
  ]
  table = Table('a', 'A & <b>', ('name', 'NE', 'nothing', 'count'), rows)
  expected = [
    ['name', 'NE', 'nothing', 'count'],
    ['50% of_{x} & "y",\n~^\\#$', '12.35', '', '1,000'],
    ['<b>', '-50.00', '3', 'é'],
  ]
  # 12.345 is a tie in decimals, and just above it in binary.
  assert read_csv(table) == expected
  page = table_html(table)
  assert '<b>' not in page and 'A &amp; &lt;b&gt;' in page
  assert page.count('<th scope="row">') == 2 and page.count('<td>') == 6
  assert '<td>–</td>' in page and '<tr class="final">' in page
  tex = table.tex()
  assert r'50\% of\_\{x\} \& "y",' in tex
  assert r'\textasciitilde{}\textasciicircum{}\textbackslash{}\#\$' in tex
  assert r'\textless{}b\textgreater{} & -50.00 & 3 & é \\' in tex
  assert r'\begin{tabular}{lrrr}' in tex


def test_ne_by_landmark(run, facts):
  rows = read_csv(sections.by_landmark(facts))
  assert rows[0][:3] == ['stage', 'collar left', 'collar right']
  for row, stage in zip(rows[1:4], run.stages, strict=True):
    errors = loop_errors(run, stage)
    means = [x[np.isfinite(x)].mean() for x in errors.T]
    assert row[0] == stage
    assert row[1:9] == [percent(mean) for mean in means]
    assert row[9:] == [percent(means), percent(errors[np.isfinite(errors)])]
  assert len(rows) == 4  # the papers have nothing on rendered garments


def test_published_figures():
  names = landmark_sets.FASHION_8.names
  dfa = published('deepfashion', 'dfa', names)
  assert len(dfa) == 4
  stage3 = dfa['DFA paper, Table 2: stage 3, on FLD']
  assert stage3[7] == 0.072 and stage3[4] is None and stage3[-1] == 0.068
  theirs = dfa['PCLoss paper, Table 1: DFA, on DeepFashion']
  assert theirs[2] == 0.0658 and theirs[-1] == 0.0662
  fpn = published('deepfashion', 'fpn', names)
  assert [values[-1] for values in fpn.values()] == [0.0311, 0.0298]
  fld = published('fld', 'simple_baselines', names)
  assert [values[-1] for values in fld.values()] == [0.0472, 0.0458]
  fgn = published('fld', 'fgn', names)
  assert [values[-1] for values in fgn.values()] == [0.0583]
  ai = published('fashion_ai', 'fashionnet', landmark_sets.FASHION_AI_24.names)
  assert [values[-1] for values in ai.values()] == [0.1017, 0.0971]
  assert all(len(values) == 25 for values in ai.values())
  assert published('lsp', 'dfa', landmark_sets.LSP_14.names) == {}
  # The printed averages are the means of the columns.
  for dataset in ('deepfashion', 'fld'):
    for model in ('fashionnet', 'fpn', 'simple_baselines', 'fgn'):
      for values in published(dataset, model, names).values():
        assert np.mean(values[:8]) == pytest.approx(values[8], abs=6e-5)


def test_papers_are_told_apart(run, facts):
  """Of data that the papers have, their rows stand below and are marked."""
  ours = make_run()
  ours.evaluation.config.dataset.name = 'deepfashion'
  table = sections.by_landmark(analyse([ours, run]))
  assert [row.kind for row in table.rows[-5:]] == ['final', *4 * ['paper']]
  assert table.rows[-1].cells[0] == 'paper'
  assert 'DFA on' not in table.csv().split('\n')[1]
  values = sentences.values(analyse([ours]))
  assert 'not comparable' in values['papers']
  assert 'papers' not in sentences.values(facts)


def test_groups(run, facts):
  errors, p = loop_errors(run), run.predictions
  rows = read_csv(sections.by_group(facts, 'clothes_type'))
  types = landmark_sets.CLOTHES_TYPES.items()
  for row, (code, name) in zip(rows[1:], types, strict=True):
    mask = p.clothes_type == code
    part = errors[mask]
    images = [x[np.isfinite(x)].mean() for x in part if np.isfinite(x).any()]
    values = part[np.isfinite(part)]
    assert row == [
      name,
      str(mask.sum()),
      of(errors, mask),
      percent(np.median(images)),
      percent(np.quantile(images, 0.9)),
      percent(values > 0.2),
    ]
  names = [row[0] for row in read_csv(sections.by_group(facts, 'variation'))]
  assert names == ['variation', 'normal pose', 'medium pose', 'large pose']
  plain = make_run(cascade=False, num_stages=1)
  assert sections.by_group(analyse([plain]), 'variation') is None


def test_routing(run, facts):
  rows = read_csv(sections.routing(facts))
  hard = run.predictions.route_score >= 0.3
  assert 0 < hard.sum() < 40
  names = ('easy', 'hard')
  for row, name, mask in zip(rows[1:], names, (~hard, hard), strict=True):
    before = of(loop_errors(run, 'stage2'), mask)
    after = of(loop_errors(run, 'stage3'), mask)
    assert row == [name, str(mask.sum()), percent(mask), before, after]
  assert (
    sections.routing(analyse([make_run(cascade=False, num_stages=1)])) is None
  )


def test_branches_by_variation(run, facts):
  rows = read_csv(sections.branches_by_variation(facts))
  codes = run.predictions.variation
  for row, code in zip(rows[1:], (1, 2, 3), strict=True):
    mask = codes == code
    before, after = (
      of(loop_errors(run, stage), mask) for stage in ('stage2', 'stage3')
    )
    name = schema.VARIATIONS[code].replace('_', ' ')
    assert row == [name, str(mask.sum()), before, after]
  plain = analyse([make_run(cascade=False, num_stages=1)])
  assert sections.branches_by_variation(plain) is None


def test_what_is_said_of_the_routing_score(run, facts):
  errors = [row[np.isfinite(row)] for row in loop_errors(run, 'stage2')]
  known = [i for i, row in enumerate(errors) if row.size]
  order = lambda values: np.argsort(np.argsort(values))
  expected = np.corrcoef(
    order(run.predictions.route_score[known]),
    order([errors[i].mean() for i in known]),
  )[0, 1]
  said = ' '.join(sentences.findings(facts))
  assert f'routing score with the NE of stage2 is {expected:.2f};' in said
  alike = make_run()
  alike.predictions.route_score[:] = 0.3
  assert 'score has no rank correlation' in ' '.join(
    sentences.findings(analyse([alike]))
  )
  plain = analyse([make_run(cascade=False, num_stages=1)])
  assert 'routing' not in ' '.join(sentences.findings(plain))


def test_visibility(run, facts):
  p = run.predictions
  counts = np.zeros((3, 3), int)
  for i, j in np.ndindex(p.visibility.shape):
    if p.visibility[i, j] >= 0:
      probs = p.visibility_probs['stage3'][i, j].tolist()
      counts[p.visibility[i, j], probs.index(max(probs))] += 1
  np.testing.assert_array_equal(confusion(run), counts)
  rows = read_csv(sections.visibility(facts))
  for row, line in zip(rows[1:], counts, strict=True):
    assert row[1] == str(line.sum())
    assert row[2:] == [percent(n / line.sum()) for n in line]


def test_data(run, facts):
  p = run.predictions
  types, variations, states = map(
    read_csv,
    [
      sections.data_by_group(facts, 'clothes_type'),
      sections.data_by_group(facts, 'variation'),
      sections.data_visibility(facts),
    ],
  )
  counts = [int((p.clothes_type == code).sum()) for code in (1, 2, 3)]
  assert [row[1] for row in types[1:]] == list(map(str, counts))
  assert [row[2] for row in types[1:]] == [percent(n / 40) for n in counts]
  assert sum(int(row[1]) for row in variations[1:]) == 40
  codes = p.visibility[:, 0]
  shares = [percent(codes[codes >= 0] == code) for code in range(3)]
  assert states[1] == ['collar left', str((codes >= 0).sum()), *shares]


def test_kept_by_hand():
  errors, scores = np.array([4.0, 1, 2, 5]), np.array([0.1, 0.9, 0.5, 0.2])
  found = kept_ne(errors, scores, (1.0, 0.75, 0.5, 0.1))
  assert found == [3.0, 8 / 3, 1.5, 1.0]
  assert kept_ne(errors[:0], scores[:0], (0.5,)) == [None]


def test_trust(run, facts):
  rows = read_csv(sections.trust(facts))
  assert [row[0] for row in rows[1:]] == [
    'probability of visible',
    'small move by the last stage',
    'low routing score',
  ]
  errors = loop_errors(run)
  mask = np.isfinite(errors)
  assert {row[1] for row in rows[1:]} == {percent(errors[mask])}
  box = run.predictions.boxes[:, 2:] - run.predictions.boxes[:, :2]
  estimates = run.predictions.estimates
  moves = estimates['stage3'] - estimates['stage2']
  moves = np.hypot(*np.moveaxis(moves / box[:, None], -1, 0))[mask]
  half = errors[mask][np.argsort(moves)][: round(mask.sum() / 2)]
  assert rows[2][5] == percent(half)


def test_calibration():
  p = make_run(seed=3).predictions
  fitted = Calibration.fit(p, 'tune', Identity('', {}))
  run = make_run()
  assert sections.calibration(analyse([run])) is None
  run.figures['calibration'] = fitted.figures(run.predictions)
  rows = read_csv(sections.calibration(analyse([run])))
  names = [name.replace('_', ' ') for name in p.landmark_set.names]
  assert [row[0] for row in rows[1:]] == [*names, 'all']
  # Forty images: all landmarks share a table, of whose own errors each bin of n
  # holds ceil((n + 1) 0.9), n at least 50.
  shares = [
    np.linalg.norm(gap) / np.sqrt(np.prod(box[2:] - box[:2]))
    for gaps, codes, box in zip(
      p.estimates['stage3'] - p.landmarks, p.visibility, p.boxes, strict=True
    )
    for gap, code in zip(gaps, codes, strict=True)
    if code == 0
  ]
  assert len(fitted.own) == 0 and fitted.pooled.count == len(shares)
  hits = fitted.figures(p)['within_90']['overall'] * len(shares)
  assert 0.9 * len(shares) <= hits <= 0.93 * len(shares)
  found = run.figures['calibration']['within_90']['overall']
  assert rows[-1][4] == f'{100 * found:.2f}'


def test_difference_is_of_the_same_images(run):
  ids = [f'img/{i:03}.jpg' for i in range(30, 70)]  # ten in common
  other = make_run('b', seed=1, ids=ids)
  both = analyse([run, other])
  (row,) = read_csv(sections.difference(both))[1:]
  image = lambda of: np.array(
    [np.nanmean(x) if np.isfinite(x).any() else np.nan for x in of]
  )
  a, b = image(loop_errors(run))[30:], image(loop_errors(other))[:10]
  known = np.isfinite(a) & np.isfinite(b)  # its first image has no NE
  change = (b - a)[known]
  assert len(change) == 9
  error = change.std(ddof=1) / 3
  expected = [a[known].mean(), b[known].mean(), change.mean(), error]
  assert row == ['b', '9', *map(percent, [*expected, (change < 0).mean()])]
  lead = sentences.values(both)['lead']
  assert 'b has 10 of its 40 images in common with a' in lead


def test_exchanged_sides(run, facts):
  """Rows 5 to 8 were made with left and right the other way round."""
  plain = loop_errors(run)
  turned = make_run()
  flip = [1, 0, 3, 2, 5, 4, 7, 6]
  for estimate in turned.predictions.estimates.values():
    estimate[:] = estimate[:, flip]
  turned = loop_errors(turned)
  seen = np.isfinite(plain).any(axis=1)
  expected = np.zeros(40, bool)
  expected[seen] = np.nanmean(turned[seen], 1) < np.nanmean(plain[seen], 1)
  np.testing.assert_array_equal(facts.first.exchanged['stage3'], expected)
  assert expected[5:9].all() and not expected[9:].any()
  lines = sentences.findings(facts)
  share = percent((plain[expected] > 0.2).sum() / (plain > 0.2).sum())
  assert f'{share} % of the outliers' in lines[-1]


# --- gallery ------------------------------------------------------------------


def test_choice_by_hand():
  errors = np.array([5.0, np.nan, 1, 9, 3, 7, 2, 8, 4, 6])
  chosen = analysis.choose(errors, 6)
  why = lambda name: sorted(row for row, w in chosen.items() if w == name)
  assert why('worst') == [3, 7]  # 9 and 8
  assert why('best') == [2, 6]  # 1 and 2
  assert why('spread') == [4, 5]  # of 3 to 7 the ends
  everything = analysis.choose(errors, 100)
  assert sorted(everything) == [0, 2, 3, 4, 5, 6, 7, 8, 9]
  assert list(everything.values()).count('worst') == 3
  assert analysis.choose(np.full(3, np.nan), 6) == {}


def test_gallery_positions_and_errors(run, facts):
  data = gallery.gallery(facts)
  assert len(data['images']) == 39  # one has no NE
  p = run.predictions
  for entry in data['images'][:5]:
    row = p.ids.index(entry['id'])
    box = p.boxes[row]
    margin = 0.12 * max(box[2:] - box[:2])
    x1, y1 = np.floor(np.maximum(box[:2] - margin, 0))
    x2, y2 = np.ceil(np.minimum(box[2:] + margin, (160, 200)))
    scale = min(200 / (y2 - y1), 240 / (x2 - x1))
    width, height = round(scale * (x2 - x1)), round(scale * (y2 - y1))
    assert (entry['width'], entry['height']) == (width, height)
    for slot, code in enumerate(p.visibility[row]):
      if code not in (0, 1):
        assert entry['truth'][slot] is None
        continue
      x, y = p.landmarks[row, slot]
      expected = [
        (x - x1) * width / (x2 - x1),
        (y - y1) * height / (y2 - y1),
      ]
      np.testing.assert_allclose(entry['truth'][slot], expected, atol=0.06)
    errors = loop_errors(run)[row]
    found = entry['runs'][0]['errors'][2]
    for value, error in zip(found, errors, strict=True):
      if np.isnan(error):
        assert value is None
      else:
        assert value == pytest.approx(100 * error, abs=0.006)
    ne = entry['runs'][0]['ne'][2]
    assert ne == pytest.approx(100 * np.nanmean(errors), abs=0.006)


def test_runs_share_the_images_of_the_gallery(run):
  other = make_run('b', seed=1, cascade=False, num_stages=1)
  data = gallery.gallery(analyse([run, other]))
  assert len(data['images']) == 39
  assert all(len(entry['runs']) == 2 for entry in data['images'])
  assert [r['stages'] for r in data['runs']][1] == ['stage1']
  other.predictions.boxes += 1  # a detector's: other pictures
  assert len(gallery.gallery(analyse([run, other]))['images']) == 78


# --- pictures and plots ------------------------------------------------------


@pytest.mark.parametrize('stage', ['stage1', 'stage2', 'stage3'])
def test_nearest_centres(run, stage):
  """By loops, in pixels of the stretched crop of 224."""
  p, labels = run.predictions, mean_images.nearest_clusters(run, stage)
  before = {'stage2': 'stage1', 'stage3': 'stage2'}.get(stage)
  assert run.evaluation.config.input.crop == 'bbox_wh'
  margin = run.evaluation.config.input.margin
  for i in range(40):
    x1, y1, x2, y2 = p.boxes[i]
    sides = 224 / (1 + 2 * margin) / np.array([x2 - x1, y2 - y1])
    centre = [(x1 + x2) / 2, (y1 + y2) / 2]
    known = np.isin(p.visibility[i], (0, 1))
    truth = (p.landmarks[i] - centre) * sides
    if before is None:
      z, has = truth.ravel(), np.repeat(known, 2)
    else:
      z = (p.estimates[before][i] - centre) * sides - truth
      z = np.where(known[:, None], z, 0).ravel()
      has = np.ones(z.shape, bool)
    if stage == 'stage3':
      z = np.outer(z, z).ravel()
      z, has = np.sign(z) * np.sqrt(abs(z)), np.ones(z.shape, bool)
    gaps = run.evaluation.centres[stage] - z
    distance = (gaps[:, has] ** 2).sum(axis=1)
    assert labels[i] == distance.argmin()


def test_pattern_of_errors():
  pattern = np.array([[3.0, -4], [0, 10], [-2, 1]])
  products = np.outer(pattern.ravel(), pattern.ravel()).ravel()
  signed = np.sign(products) * np.sqrt(np.abs(products))
  for centre, transform in ((products, 'raw'), (signed, 'signed_sqrt')):
    found = mean_images.error_pattern(centre, transform)
    sign = np.sign(found[1, 1])
    np.testing.assert_allclose(sign * found, pattern, atol=1e-6)


def test_patches_are_centred_on_the_landmark(run):
  """White squares on landmark 2 alone, also at the edge of an image."""
  marked = make_run()
  p = marked.predictions
  rows = np.flatnonzero(p.visibility[:, 2] == 0)[:4]
  p.landmarks[rows[0], 2] = [6.5, 100.5]

  def image(row):
    picture = np.zeros((200, 160, 3), np.uint8)
    x, y = np.floor(p.landmarks[row, 2]).astype(int)
    picture[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = 255
    return picture

  marked.image = image
  _, patches = mean_images.crops_and_patches(marked, rows)
  patch = patches[2].astype(float)
  assert patch[30:34, 30:34].min() > 200
  assert patch[:15].max() < 40 and patch[:, -15:].max() < 40
  y, x = np.mgrid[:64, :64] + 0.5
  mass = [(patch[..., 0] * g).sum() / patch[..., 0].sum() for g in (x, y)]
  np.testing.assert_allclose(mass, [32, 32], atol=2.5)


def test_bars_are_the_numbers(run, facts):
  axes = error_plots.plot_landmarks(facts).axes[0]
  errors = loop_errors(run, 'stage3')
  found = [bar.get_width() for bar in axes.patches[-8:]]
  expected = [100 * x[np.isfinite(x)].mean() for x in errors.T]
  np.testing.assert_allclose(found, expected)
  axes = error_plots.plot_groups(facts).axes[0]
  found = [bar.get_height() for bar in axes.patches[-3:]]
  types = run.predictions.clothes_type
  expected = [float(of(errors, types == code)) for code in (1, 2, 3)]
  np.testing.assert_allclose(found, expected, atol=0.006)


def loop_pdl(run, stage, rows, slots, limit):
  """The share of visible landmarks within a distance, one by one."""
  p, near, total = run.predictions, 0, 0
  for i in rows:
    width, height = p.boxes[i][2:] - p.boxes[i][:2]
    for j in slots:
      if p.visibility[i, j] == schema.VISIBLE:
        x, y = p.estimates[stage][i, j] - p.landmarks[i, j]
        distance = 224 * np.hypot(x / width, y / height)
        near, total = near + (distance <= limit), total + 1
  return near / total


def test_detected_landmarks_in_parts():
  """Two runs: a curve and a bar of each, in each panel."""
  runs = [make_run('a'), make_run('b', seed=1)]
  facts, names = analyse(runs), landmark_sets.FASHION_8.names
  every, slots = range(len(runs[0].predictions.ids)), range(8)
  panels = curves.plot_pdl_by_landmark(facts).axes
  assert [axes.get_title() for axes in panels] == [
    name.replace('_', ' ') for name in names
  ]
  for axes, slot in zip(panels, slots, strict=True):
    for line, run in zip(axes.lines, runs, strict=False):
      for limit in (5, 15, 40):
        expected = loop_pdl(run, 'stage3', every, [slot], limit)
        assert line.get_ydata()[limit] == pytest.approx(100 * expected)
  groups = {
    'clothes_type': {1: 'upper', 2: 'lower', 3: 'full'},
    'variation': {1: 'normal pose', 2: 'medium pose', 3: 'large pose'},
  }
  panels = {a.get_title(): a for a in curves.plot_pdl_by_group(facts).axes}
  heights = [
    bar.get_height()
    for axes in error_plots.plot_detected(facts).axes
    for bar in axes.patches
  ]
  expected = []
  for group in groups:
    for run in runs:
      for code, name in groups[group].items():
        rows = np.flatnonzero(getattr(run.predictions, group) == code)
        share = 100 * loop_pdl(run, 'stage3', rows, slots, 15)
        expected.append(share)
        line = panels.pop(name) if run is runs[1] else panels[name]
        found = line.lines[runs.index(run)].get_ydata()[15]
        assert found == pytest.approx(share)
  assert heights == pytest.approx(expected)
  assert not [a for a in panels.values() if a.get_visible()]


def test_nothing_detected_of_unknown_groups():
  one = make_run(cascade=False, num_stages=1, landmarks=OWN)
  one.predictions.clothes_type[:] = 0
  facts = analyse([one])
  assert curves.plot_pdl_by_group(facts) is None
  assert error_plots.plot_detected(facts) is None
  one.predictions.visibility[:] = schema.TRUNCATED
  assert curves.plot_pdl_by_landmark(analyse([one])) is None


def test_networks_of_several_runs():
  """The time is no share, so it is not in per cent."""
  runs = [make_run('a'), make_run('b', seed=1), make_run('old', seed=2)]
  found = {'parameters': 1_234_567, 'batch_size': 32, 'device': '1 x cpu'}
  runs[0].networks = Networks(trained=5, run=3, ms_per_image=12.345, **found)
  runs[1].networks = Networks(trained=17, run=17, ms_per_image=80.0, **found)
  rows = read_csv(sections.networks(analyse(runs)))
  assert rows[1:] == [
    ['a', '5', '3', '1,234,567', '12.3', '32', '1 x cpu'],
    ['b', '17', '17', '1,234,567', '80', '32', '1 x cpu'],
  ]
  assert sections.networks(analyse(runs[2:])) is None


SETS = {
  'fashion_ai': landmark_sets.FASHION_AI_24,
  'coco': landmark_sets.COCO_17,
  'own': OWN,
}


@pytest.mark.parametrize('name', SETS)
def test_other_landmarks_and_single_stages(name, tmp_path):
  one = make_run(count=12, landmarks=SETS[name], cascade=False, num_stages=1)
  (tmp_path / 'figures').mkdir()
  (tmp_path / 'figures/routing.png').touch()  # of an earlier report
  text = report.write_report([one], tmp_path).read_text()
  assert not (tmp_path / 'figures/routing.png').exists()
  headings = set(re.findall(r'<section id="(\w+)"', text))
  left_out = {'visibility', 'routing', 'clusters', 'comparison'}
  assert not headings & left_out
  assert {'papers', 'gallery', 'trust', 'training', 'data'} <= headings
  for heading in headings - {'summary'}:
    assert f'<li><a href="#{heading}">' in text
  assert not any(f'href="#{heading}"' in text for heading in left_out)
  assert '<mitten>' not in text
  if name == 'fashion_ai':
    assert 'armpits or waistband' in text and '% of the pair' in text


def test_without_any_visible_landmark(tmp_path):
  """Nothing can be measured, and it is said so."""
  one = make_run(count=4)
  one.predictions.visibility[:] = schema.TRUNCATED
  one = evaluated_run.EvaluatedRun(
    'a',
    one.evaluation,
    {**normalised_error.evaluate(one.predictions), 'network_passes': {}},
    one.image,
  )
  text = report.write_report([one], tmp_path).read_text()
  assert '<dd>not measured</dd>' in text


# --- the page and its files --------------------------------------------------


def test_files(run, tmp_path):
  path = report.write_report([run], tmp_path)
  text = path.read_text()
  names = sorted(p.stem for p in (tmp_path / 'figures').iterdir())
  assert {'pdl', 'clusters_stage3', 'overlays', 'patches'} <= set(names)
  for name in names:
    image = cv2.imread(str(tmp_path / 'figures' / f'{name}.png'))
    assert min(image.shape[:2]) > 100 and image.std() > 5, name
    assert f'figures/{name}.png' in text
  tables = {p.stem for p in (tmp_path / 'tables').glob('*.csv')}
  assert tables == {p.stem for p in (tmp_path / 'tables').glob('*.tex')}
  for name in tables:
    cells = list(csv.reader((tmp_path / f'tables/{name}.csv').open()))
    html = re.search(f'<table id="table-{name}".*?</table>', text, re.S)
    found = re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', html.group())
    expected = [cell or '–' for row in cells for cell in row]
    assert found == expected, name


def test_nothing_of_the_data_is_taken_for_the_page():
  bad = ['</script><script>alert(1)</script>', '{{ content }}', '<!--', '{% d']
  one = make_run('{{ values.macro }} <i>', count=4, ids=bad)
  found = analyse([one])
  text = page(
    Content(
      blocks={'overview': [sections.overview(found)]},
      values=sentences.values(found),
      gallery=gallery.gallery(found),
    )
  )
  assert text.count('<script') == 2 and 'alert(1)</script>' not in text
  assert '{{ values.macro }} &lt;i&gt;' in text and '<i>' not in text
  block = re.search(r'id="gallery-data">(.*?)</script>', text, re.S).group(1)
  assert {e['id'] for e in json.loads(block)['images']} <= set(bad)
  # Nothing to fetch: no address but those of XML's names.
  assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text) == []
  assert set(re.findall(r'https?://[^\s\'"]+', text)) == {
    'http://www.w3.org/2000/svg'
  }


def test_every_block_has_a_section_in_the_template():
  """Without one it would be left out and nobody would be told."""
  template = (ROOT / 'fld_jax/report/assets/page.html').read_text()
  named = set(re.findall(r"call section\('(\w+)'", template))
  assert {block.section for block in content.BLOCKS} < named


def test_empty_sections_are_left_out():
  text = page(Content(values={'title': 'T', 'norm': 'N'}, gallery={}))
  assert set(re.findall(r'<section id="(\w+)"', text)) == {'definitions'}
  assert '{{' not in text


def test_bounded_size(tmp_path):
  """A large split of noise, the worst for JPEG."""
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (200, 160, 3), dtype=np.uint8)
  one = make_run(count=300)
  one.image = lambda row: np.roll(noise, row, axis=1)
  path = report.write_report([one], tmp_path)
  assert path.stat().st_size < 12e6
  data = re.search(r'id="gallery-data">(.*?)</script>', path.read_text(), re.S)
  assert len(json.loads(data.group(1))['images']) == 240


# --- from the folders of runs ------------------------------------------------


def test_labels():
  paths = [pathlib.Path(p) for p in ('/r/a/seed0', '/r/b/seed0')]
  assert evaluated_run.labels(paths) == ['a/seed0', 'b/seed0']
  assert evaluated_run.labels(paths[:1]) == ['seed0']


def test_again_from_the_folder(trained_workdir, tmp_path):
  """The evaluation's own report, and one made of its files, are the same."""
  report.report([trained_workdir], tmp_path, 'test')
  own = trained_workdir / 'eval/test'
  assert (tmp_path / 'report.html').read_bytes() == (
    own / 'report.html'
  ).read_bytes()
  tables = sorted((tmp_path / 'tables').iterdir())
  assert len(tables) > 20
  for path in tables:
    assert path.read_bytes() == (own / 'tables' / path.name).read_bytes()
  assert 'id="routing"' in (own / 'report.html').read_text()


def test_two_runs(trained_workdir, tmp_path):
  other = tmp_path / 'other'
  shutil.copytree(trained_workdir / 'eval', other / 'eval')
  report.report([trained_workdir, other], tmp_path / 'out', None)
  text = (tmp_path / 'out/report.html').read_text()
  assert '<h2>The runs on the same images</h2>' in text
  rows = list(csv.reader((tmp_path / 'out/tables/difference.csv').open()))
  assert rows[1][0] == 'other' and rows[1][4] == '0.00'


def test_mistakes(trained_workdir, tmp_path):
  with pytest.raises(InputError, match='twice'):
    report.report([trained_workdir] * 2, tmp_path, None)
  with pytest.raises(InputError, match='no folder'):
    report.report([tmp_path / 'none'], tmp_path, None)
  with pytest.raises(InputError) as caught:
    report.report([trained_workdir], tmp_path, 'val')
  assert (
    '(it has one of test): make it by python -m fld_jax.main --mode=evaluate '
    f'--workdir={trained_workdir} --split=val'
  ) in str(caught.value)
  assert not (tmp_path / 'report.html').exists()


def test_moved_images(tmp_path, caplog):
  """Without its images a report has all but them, and says so; no folder."""
  caplog.set_level(logging.WARNING, 'fld_jax')
  run = make_run(count=3)
  run.evaluation.config.dataset.name = 'deepfashion'
  run.evaluation.config.dataset.manual_dir = str(tmp_path / 'gone')
  run.evaluation.config.dataset.data_dir = str(tmp_path / 'nowhere')
  place = tmp_path / 'run/eval/val'
  run.evaluation.save(place / 'evaluation.npz')
  results.write_evaluation(place, run.predictions, run.figures)
  page = report.report([tmp_path / 'run'], tmp_path / 'out', None).read_text()
  assert 'positions are shown on grey' in page
  assert 'run was evaluated on are not here' in caplog.text
  pictures = {path.stem for path in (tmp_path / 'out/figures').iterdir()}
  assert pictures and 'patches' not in pictures
  assert sorted(path.name for path in tmp_path.iterdir()) == ['out', 'run']


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda f: f.pop('stages'), 'content: .* an object with stages'),
    (lambda f: f.clear(), 'content: .* an object with num_examples'),
    (lambda f: f.update(norm='x'), "norm: is 'x', must be 'bbox_wh'"),
    (lambda f: f.update(num_examples='3'), "num_examples: is '3', .* a number"),
    (lambda f: f['ne'].update(macro=None), 'ne.macro: is None, .* a number'),
    (lambda f: f['stages'].update(x={}), 'stages: .* an object of stage1'),
    (lambda f: f.update(network_passes=[1]), 'network_passes: is '),
  ],
)
def test_garbled_metrics(tmp_path, change, words):
  run = make_run(count=6)
  place = tmp_path / 'run/eval/val'
  run.evaluation.save(place / 'evaluation.npz')
  change(run.figures)
  results.write_evaluation(place, run.predictions, run.figures)
  with pytest.raises(InputError, match=f'metrics.json, {words}.*again'):
    report.report([tmp_path / 'run'], tmp_path / 'out', None)


def test_metrics_from_before_there_were_signed_errors(tmp_path):
  run = make_run(count=6)
  place = tmp_path / 'run/eval/val'
  run.evaluation.save(place / 'evaluation.npz')
  for stage in run.figures['stages'].values():
    assert stage.pop('signed_error')
  results.write_evaluation(place, run.predictions, run.figures)
  (found,) = evaluated_run.read_runs([tmp_path / 'run'], None)
  whole = normalised_error.evaluate(run.predictions)
  for name, stage in found.figures['stages'].items():
    expected = whole['stages'][name]['signed_error']
    assert stage['signed_error']['x']['macro'] == pytest.approx(
      expected['x']['macro'], rel=1e-4
    )


def test_other_landmarks_are_not_compared(trained_workdir, monkeypatch):
  read = evaluated_run._read_run

  def other(label, place, split):
    if label == 'b':
      return make_run(landmarks=OWN)
    return read(label, place, split)

  monkeypatch.setattr(evaluated_run, '_read_run', other)
  with pytest.raises(InputError, match='cuff_left.*collar_left.*one of each'):
    evaluated_run.read_runs([trained_workdir, pathlib.Path('/x/b')], 'test')


def test_the_pages_files_are_installed():
  """They are no modules, so pyproject.toml has to name them."""
  top = ROOT
  project = tomllib.loads((top / 'pyproject.toml').read_text())
  patterns = project['tool']['setuptools']['package-data']['fld_jax.report']
  folder = top / 'fld_jax/report'
  others = {
    path.relative_to(folder).as_posix()
    for path in folder.glob('assets/*')
    if path.suffix != '.py'
  }
  assert {'assets/page.html', 'assets/page.js'} < others
  named = {
    path.relative_to(folder).as_posix()
    for pattern in patterns
    for path in folder.glob(pattern)
  }
  assert others <= named
