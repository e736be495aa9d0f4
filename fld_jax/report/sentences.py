"""The sentences of a report, as functions of its facts."""

from fld_jax.evaluation.baseline import compare
from fld_jax.evaluation.calibration import describe
from fld_jax.evaluation.facts import Facts, RunFacts
from fld_jax.evaluation.text_tables import percent, words

_NORMS = {
  'bbox_wh': 'x divided by the width of the box, y by its height',
  'keypair': 'divided by the distance of two landmarks that the type of '
  'clothes decides (armpits or waistband); images without them have none',
}
_PAPERS = (
  'The grey rows are what the papers print. They are not comparable as such: '
  'the papers train on all of the data, from ImageNet weights and at their own '
  'resolution; data, weights and input of these runs differ.'
)


def with_sign(value: float | None) -> str:
  """Formats a fraction like '12.34 %'.

  Args:
    value: The fraction; None becomes 'not measured'.
  """
  return 'not measured' if value is None else f'{percent(value)} %'


def values(facts: Facts) -> dict[str, str]:
  """The texts of the page that depend on the runs.

  Args:
    facts: The report's facts.

  Returns:
    The template's name of a text -> the text.
  """
  found = {
    'title': _title(facts),
    'lead': _lead(facts),
    'norm': _NORMS.get(facts.norm, f'divided by {facts.norm}'),
  }
  if facts.is_single:
    final, figures = facts.first.final_figures, facts.first.run.figures
    found |= {
      'macro': with_sign(final['ne']['macro']),
      'pdl': with_sign(final['pdl_at_15']),
      'outliers': with_sign(final['outlier_rate']),
      'images': f'{figures["num_examples"]:,}',
      'corrupt': f'{figures.get("num_corrupt", 0):,}',
    }
  if any(run.published for run in facts.runs):
    found |= {'beside': ', beside the papers', 'papers': _PAPERS}
  if facts.examples:
    each = '' if facts.is_single else ', of each run'
    found['gallery'] = (
      f'{len(facts.examples):,} images{each}: a third the worst, a third the '
      'best, a third evenly spread between, by the NE of the final stage.'
    )
  return found


def _title(facts: Facts) -> str:
  """The page's title."""
  if len(facts.runs) < 4:
    return ', '.join(run.label for run in facts.runs)
  return f'{facts.first.label} and {len(facts.runs) - 1} other runs'


def _lead(facts: Facts) -> str:
  """What was evaluated, and whether the images are the same."""
  evaluations = [run.run.evaluation for run in facts.runs]
  places = dict.fromkeys(
    f'split {found.split} of {found.config.dataset.name}'
    for found in evaluations
  )
  sentences = [f'Evaluated on {" and ".join(places)}.']
  sizes = [len(found.predictions.ids) for found in evaluations]
  for found, size in zip(facts.comparisons, sizes[1:], strict=True):
    common = found.first.size
    if common < max(size, sizes[0]):
      sentences.append(
        f'{found.label} has {common:,} of its {size:,} images in common with '
        f'{facts.first.label}: figures of the whole splits are of different '
        'images.'
      )
  grey = [run.label for run in facts.runs if not run.run.has_images]
  if grey:
    sentences.append(
      f'The images of {" and ".join(grey)} were not there when this page was '
      'made: positions are shown on grey.'
    )
  return ' '.join(sentences)


def findings(facts: Facts) -> list[str]:
  """The sentences on where to look first: in one run, or among several.

  Args:
    facts: The report's facts.
  """
  if not facts.is_single:
    return [*_best(facts), *_guesses(facts)]
  return [
    *_guesses(facts),
    *_by_stage(facts.first),
    *_hardest(facts.first),
    *_routing(facts.first),
    *_sides(facts.first),
    *_reliability(facts.first),
  ]


def _guesses(facts: Facts) -> list[str]:
  """What guessing the mean positions is worth; of several runs, if not less."""
  if facts.is_single:
    run = facts.first
    sentence = compare(run.final_figures['ne']['macro'], run.guess_macro)
    return [sentence] if sentence else []
  sentences = []
  for run in facts.runs:
    ne, guess = run.final_figures['ne']['macro'], run.guess_macro
    if None not in (ne, guess) and ne >= guess:
      sentences.append(f'{run.label}: {compare(ne, guess)}')
  return sentences


def macro_by_stage(figures: dict[str, dict]) -> str:
  """Lists macro NE like 'stage1 12.34 %, stage2 11.00 %'.

  Args:
    figures: Label -> what metrics.json holds of a stage.
  """
  return ', '.join(
    f'{label} {with_sign(of_stage["ne"]["macro"])}'
    for label, of_stage in figures.items()
  )


def _by_stage(run: RunFacts) -> list[str]:
  """The macro NE of each stage, of several."""
  if len(run.stages) == 1:
    return []
  figures = {stage: run.run.figures['stages'][stage] for stage in run.stages}
  return [f'Macro NE by stage: {macro_by_stage(figures)}.']


def _hardest(run: RunFacts) -> list[str]:
  """The hardest and the easiest landmark, clothes type and variation."""
  final, sentences = run.final_figures, []
  macro = lambda groups: {name: of['macro'] for name, of in groups.items()}
  for kind, measured in {
    'landmark': final['ne']['per_landmark'],
    'clothes type': macro(final['ne_by_clothes_type']),
    'variation': macro(final['ne_by_variation']),
  }.items():
    ne = {name: v for name, v in measured.items() if v is not None}
    if len(ne) > 1:
      worst, best = max(ne, key=ne.get), min(ne, key=ne.get)
      sentences.append(
        f'The hardest {kind} is {words(worst)}, NE {with_sign(ne[worst])}; '
        f'the easiest {words(best)}, {with_sign(ne[best])}.'
      )
  return sentences


def _routing(run: RunFacts) -> list[str]:
  """How well the routing score orders the images, before the branches."""
  if not run.routed_well:
    return []
  stage = run.stages[-2]
  found = run.routed_well[stage]
  if found is None:
    return [
      f'The routing score has no rank correlation with the NE of {stage}: one '
      'of them is the same for all images, or was not measured.'
    ]
  return [
    f'The rank correlation of the routing score with the NE of {stage} is '
    f'{found:.2f}; 1 would be the order of the errors, 0 is chance.'
  ]


def _best(facts: Facts) -> list[str]:
  """Which run is the best by which figure."""
  sentences = []
  for name, best, value in (
    ('Lowest macro NE', min, lambda final: final['ne']['macro']),
    (
      'Most landmarks within 15 of 224 pixels',
      max,
      lambda final: final['pdl_at_15'],
    ),
    ('Fewest outliers', min, lambda final: final['outlier_rate']),
  ):
    found = {run.label: value(run.final_figures) for run in facts.runs}
    if None not in found.values():
      label = best(found, key=found.get)
      sentences.append(f'{name}: {label}, {with_sign(found[label])}.')
  return sentences


def _reliability(run: RunFacts) -> list[str]:
  """How often landmarks are within error_50 and error_90."""
  return [describe(run.calibration)] if run.calibration else []


def _sides(run: RunFacts) -> list[str]:
  """How much of the error is left and right taken for each other."""
  if run.exchanged_outliers is None:
    return []
  share = float(run.exchanged[run.final].mean())
  return [
    f'In {with_sign(share)} of the images the prediction would fit better with '
    f'left and right exchanged; they have {with_sign(run.exchanged_outliers)} '
    'of the outliers.'
  ]
