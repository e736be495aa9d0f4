"""The report's page in a browser: its filters, keyboard, widths and silence."""

import shutil

import cv2
import numpy as np
import pytest
from made_up_runs import loop_errors, make_run

from fld_jax import landmark_sets
from fld_jax.evaluation.analysis import analyse
from fld_jax.report import gallery, sections, sentences
from fld_jax.report.render import Content, Picture, page
from fld_jax.visualization import drawing

BROWSER = next(
  filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'chrome'))),
  None,
)
if not BROWSER:
  pytest.skip('no Chromium here', allow_module_level=True)
sync_api = pytest.importorskip('playwright.sync_api')

FLAGS = [
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-gpu',
  '--disable-quic',
  '--disable-sync',
  '--no-first-run',
  '--no-sandbox',
]
COUNT = 60
SIDES = {
  'left': drawing.LEFT,
  'right': drawing.RIGHT,
  'middle': drawing.MIDDLE,
}


@pytest.fixture(scope='module')
def runs():
  ids = [f'img/{i:03}.jpg' for i in range(COUNT - 1)]
  ids.append('</script><b>a long name of an image, '.ljust(200, 'x'))
  return [
    make_run('cascade', count=COUNT, ids=ids),
    make_run(
      'heatmaps/seed0',
      count=COUNT,
      ids=ids,
      seed=1,
      num_stages=1,
      cascade=False,
    ),
  ]


@pytest.fixture(scope='module')
def browser():
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope='module')
def facts(runs):
  return analyse(runs)


@pytest.fixture(scope='module')
def address(facts, tmp_path_factory):
  """A page with the gallery, tables, and a picture wider than a telephone."""
  png = cv2.imencode('.png', np.zeros((300, 1200, 3), np.uint8))[1].tobytes()
  content = Content(
    blocks={
      'errors': [Picture('wide', 'A caption.', 'nothing', png)],
      'overview': [sections.overview(facts)],
      'papers': [sections.by_landmark(facts)],
    },
    values={**sentences.values(facts), 'gallery': 'The images.'},
    gallery=gallery.gallery(facts),
  )
  path = tmp_path_factory.mktemp('page') / 'report.html'
  path.write_text(page(content))
  return path.as_uri()


@pytest.fixture
def opened(browser, address):
  """open(width=1280) -> the page; nothing may go wrong or leave the file."""
  wrong, pages = [], []

  def open_page(width=1280, height=900):
    tab = browser.new_page(viewport={'width': width, 'height': height})
    tab.set_default_timeout(5000)  # ms
    tab.on('console', lambda message: wrong.append(message.text))
    tab.on('pageerror', lambda error: wrong.append(str(error)))
    tab.on('request', lambda request: wrong.append(request.url))
    tab.goto(address)
    wrong.remove(address)  # the only request
    pages.append(tab)
    return tab

  yield open_page
  for tab in pages:
    tab.close()
  assert [w for w in wrong if not w.startswith('data:')] == []


def shown(tab):
  """How many match, by the page's words."""
  return int(tab.locator('#gallery-count').inner_text().split(' of ')[0])


def pick(tab, **values):
  for name, value in values.items():
    place = tab.locator(f'#filter-{name}')
    if name in ('low', 'high'):
      place.fill(value)
    else:
      place.select_option(label=value)


def image_errors(errors):
  seen = np.isfinite(errors).any(axis=1)
  means = np.full(len(errors), np.nan)
  means[seen] = np.nanmean(errors[seen], axis=1)
  return means


def test_filters_count_what_is_there(opened, runs, facts):
  tab, p = opened(), runs[0].predictions
  final, first = loop_errors(runs[0]), loop_errors(runs[0], 'stage1')
  mean = image_errors(final)
  seen = int(np.isfinite(mean).sum())  # not all have a visible landmark
  assert COUNT - 10 < seen < COUNT and shown(tab) == seen
  text = tab.locator('#gallery-count').inner_text()
  assert f'mean NE is {100 * np.nanmean(mean):.2f} %' in text
  # Each case: the controls, and which images match.
  at_least = lambda values, limit: np.nan_to_num(values, nan=-1) >= limit
  hem = final[:, 6]
  cases = [
    ({'type': 'lower'}, p.clothes_type == 2),
    ({'variation': 'large pose'}, p.variation == 3),
    (
      {'type': 'upper', 'variation': 'normal pose'},
      (p.clothes_type == 1) & (p.variation == 1),
    ),
    ({'landmark': 'hem left'}, np.isfinite(hem)),
    ({'landmark': 'hem left', 'low': '5'}, at_least(hem, 0.05)),
    ({'low': '8'}, at_least(mean, 0.08)),
    ({'low': '5', 'high': '7.5'}, (mean >= 0.05) & (mean <= 0.075)),
    ({'stage': 'stage1', 'low': '15'}, at_least(image_errors(first), 0.15)),
    ({'route': 'hard'}, p.route_score >= 0.3),
    ({'sides': 'exchanged'}, facts.first.exchanged['stage3']),
    (
      {'run': 'heatmaps/seed0', 'low': '20'},
      at_least(image_errors(loop_errors(runs[1])), 0.2),
    ),
  ]
  for values, expected in cases:
    pick(tab, **values)
    expected = int((expected & np.isfinite(mean)).sum())
    assert 0 < expected < seen, values
    assert shown(tab) == expected, values
    assert tab.locator('.card').count() == min(expected, 24)
    tab.locator('#filters button[type=reset]').click()
    # The page answers a reset in a task of its own.
    count = tab.locator('#gallery-count')
    sync_api.expect(count).to_contain_text(f'{seen} of ')
  pick(tab, low='1000')
  assert shown(tab) == 0 and tab.locator('.card').count() == 0


def test_order(opened, runs):
  tab, ids = opened(), np.array(runs[0].predictions.ids)
  mean = [image_errors(loop_errors(run)) for run in runs]
  first = lambda: tab.locator('.card').first.get_attribute('title')
  assert first() == ids[np.nanargmax(mean[0])]
  pick(tab, order='smallest NE first')
  assert first() == ids[np.nanargmin(mean[0])]
  pick(tab, run='heatmaps/seed0', order='worse than cascade')
  assert first() == ids[np.nanargmax(mean[1] - mean[0])]


def test_more(opened, runs):
  tab = opened()
  seen = np.isfinite(image_errors(loop_errors(runs[0]))).sum()
  tab.get_by_role('button', name='Show more').click()
  assert tab.locator('.card').count() == 48
  assert tab.evaluate('document.activeElement.dataset.place') == '24'
  tab.get_by_role('button', name='Show more').press('Enter')
  assert tab.locator('.card').count() == seen
  assert not tab.locator('#more').is_visible()


def test_truth_on_hover_and_focus(opened):
  tab = opened()
  pick(tab, order='smallest NE first')
  card = tab.locator('.card').nth(2)
  truth, found = card.locator('.truth').first, card.locator('.mark').first
  assert found.is_visible() and not truth.is_visible()
  card.hover()
  assert truth.is_visible() and card.locator('.line').last.is_visible()
  tab.locator('h1').hover()
  assert not truth.is_visible()
  card.focus()
  assert truth.is_visible()


def test_the_worst_show_their_truth_at_once(opened):
  tab = opened()
  pick(tab, why='worst')
  cards = tab.locator('.card')
  assert cards.count() > 5
  for i in range(cards.count()):
    assert cards.nth(i).locator('.truth').first.is_visible()
  pick(tab, why='best')
  assert not tab.locator('.card .truth').first.is_visible()


def test_marks_are_those_of_the_pictures(opened, runs):
  """Sides, rims and faintness, against the run's arrays."""
  tab, p = opened(), runs[1].predictions
  pick(tab, run='heatmaps/seed0')
  tab.locator('.card').first.click()
  row = p.ids.index(tab.locator('#viewer-title').inner_text())
  known = np.flatnonzero(np.isin(p.visibility[row], (0, 1)))
  marks = tab.locator('#viewer .mark')
  assert marks.count() == len(known)
  colour = lambda i, what: marks.nth(i).evaluate(
    f'mark => getComputedStyle(mark).{what}'
  )
  for i, slot in enumerate(known):
    side = p.landmark_set.sides[slot]
    assert colour(i, 'fill') == 'rgb({}, {}, {})'.format(*SIDES[side])
    hidden = p.visibility[row, slot] == 1
    assert (
      colour(i, 'stroke') == f'rgb({", ".join(3 * ["0" if hidden else "255"])})'
    )
    faint = p.confidences['stage1'][row, slot] < drawing.UNSURE
    assert colour(i, 'opacity') == ('0.35' if faint else '1')
  numbers = tab.locator('#viewer .number').all_text_contents()
  assert [int(n) - 1 for n in numbers] == known.tolist()
  names = [p.landmark_set.names[i] for i in known]
  bones = sum({*pair} <= {*names} for pair in p.landmark_set.skeleton)
  assert tab.locator('#viewer .bone').count() == 2 * bones
  assert tab.locator('#viewer .box').count() == 2


def test_cards_have_words_that_are_read(opened, runs):
  tab, p = opened(), runs[0].predictions
  plain = {1: 'top', 2: 'trousers or skirt', 3: 'dress'}
  pose = {1: '', 2: 'unusual pose', 3: 'extreme pose'}
  for i in range(8):
    card = tab.locator('.card').nth(i)
    row = p.ids.index(card.get_attribute('title'))
    words = ', '.join(
      filter(None, [plain[p.clothes_type[row]], pose[p.variation[row]]])
    )
    assert words in card.locator('.words').inner_text()
    assert 'branch' not in card.inner_text()


def test_keyboard_alone(opened, runs):
  tab = opened()
  place = lambda: tab.evaluate('document.activeElement.dataset.place')
  tab.keyboard.press('Tab')
  assert tab.evaluate('document.activeElement.className') == 'skip'
  tab.locator('#filter-order').focus()
  tab.keyboard.press('Tab')  # the reset button
  tab.keyboard.press('Tab')  # all cards are one stop
  assert place() == '0'
  tab.keyboard.press('ArrowRight')
  tab.keyboard.press('ArrowRight')
  tab.keyboard.press('ArrowLeft')
  assert place() == '1'
  tab.keyboard.press('ArrowDown')
  tops = tab.eval_on_selector_all(
    '#cards > li', 'all => all.map(c => c.offsetTop)'
  )
  columns = tops.count(tops[0])
  assert 2 < columns < 12 and place() == str(1 + columns)
  tab.keyboard.press('ArrowUp')
  tab.keyboard.press('Enter')
  viewer = tab.locator('#viewer')
  assert viewer.is_visible()
  ids = runs[0].predictions.ids
  order = np.argsort(-np.nan_to_num(image_errors(loop_errors(runs[0]))))
  title = tab.locator('#viewer-title')
  assert title.inner_text() == ids[order[1]]
  assert viewer.locator('.truth').first.is_visible()
  tab.keyboard.press('ArrowRight')
  assert title.inner_text() == ids[order[2]]
  # Every landmark of the image is a row, with its errors by stage.
  row = order[2]
  present = np.flatnonzero(runs[0].predictions.visibility[row] >= 0)
  rows = viewer.locator('tbody tr')
  assert rows.count() == len(present) + 1
  cells = rows.first.locator('td').all_inner_texts()
  for cell, stage in zip(cells[1:], runs[0].stages, strict=True):
    value = loop_errors(runs[0], stage)[row, present[0]]
    expected = '–' if np.isnan(value) else f'{100 * value:.1f} %'
    assert cell == expected
  tab.keyboard.press('Escape')
  assert not viewer.is_visible()
  # The dialog's close event, which moves the focus, is a task of its own.
  sync_api.expect(tab.locator('.card').nth(2)).to_be_focused()


def test_a_row_of_the_viewer_lights_its_landmark(opened):
  tab = opened()
  tab.locator('.card').first.click()
  slot = tab.locator('#viewer .landmark').first.get_attribute('data-slot')
  name = landmark_sets.FASHION_8.names[int(slot)].replace('_', ' ')
  tab.locator('#viewer tbody tr', has_text=name).focus()
  dim = tab.locator('#viewer .landmark.dim').count()
  assert dim == tab.locator('#viewer .landmark').count() - 1 > 0
  assert tab.locator(f'#viewer [data-slot="{slot}"].dim').count() == 0


@pytest.mark.parametrize('width', [390, 1280])
def test_only_boxes_scroll_sideways(opened, width):
  tab = opened(width, 844)
  wide = lambda: tab.evaluate('document.documentElement.scrollWidth')
  assert wide() == width
  tab.mouse.wheel(300, 0)
  assert tab.evaluate('window.scrollX') == 0
  # The table is wider than a telephone, and can be reached within its box.
  box = tab.locator('.scroll', has=tab.locator('#table-ne_by_landmark'))
  inner = box.evaluate('box => [box.scrollWidth, box.clientWidth]')
  assert (inner[0] > inner[1]) == (width == 390)
  assert box.get_attribute('tabindex') == '0'
  hint = tab.locator('figure', has=box).locator('.more-aside')
  assert hint.is_visible() == (width == 390)
  tab.locator('.card').first.click()
  assert tab.locator('#viewer').is_visible() and wide() == width
  assert tab.locator('#viewer').bounding_box()['width'] <= width


def test_controls_and_images_are_named(opened):
  tab = opened()
  unnamed = """all => all.filter(e => e.offsetParent
    && !(e.labels && e.labels.length) && !e.textContent.trim()).length"""
  assert tab.eval_on_selector_all('select, input, button', unnamed) == 0
  alts = tab.eval_on_selector_all('img', 'all => all.map(e => e.alt)')
  assert alts and all(alts)
  levels = tab.eval_on_selector_all(
    'h1, h2, h3', 'all => all.map(e => Number(e.tagName[1]))'
  )
  assert levels[0] == 1 and levels.count(1) == 1
  assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))
  assert tab.locator('b').count() == 0  # the id of one image
  # The list of contents leads to what it names.
  for link in tab.locator('nav a').all():
    target = link.get_attribute('href')
    assert tab.locator(f'{target} h2').inner_text() == link.inner_text()
