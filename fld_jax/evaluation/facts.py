"""What a report says of evaluated runs, as frozen data.

`analysis.analyse` computes a `Facts`. NE and shares are fractions here.
"""

import dataclasses

import numpy as np

from fld_jax import schema
from fld_jax.evaluation.evaluated_run import EvaluatedRun
from fld_jax.evaluation.mean_images import Cluster

# The shares of landmarks that the table of kept landmarks keeps.
KEPT_SHARES = (1.0, 0.9, 0.8, 0.7, 0.5, 0.3)
CURVE_SHARES = tuple(np.linspace(0.05, 1, 96).tolist())  # of the plot
ERROR_EDGES = np.linspace(0, 0.4, 41)  # NE; the last bin has all above
GROUPS = ('clothes_type', 'variation')


def group_names(landmarks: schema.LandmarkSet, group: str) -> dict[int, str]:
  """The names of the groups that codes stand for.

  Args:
    landmarks: The landmark set, which has the clothes types.
    group: A name of GROUPS.

  Returns:
    Code -> name.
  """
  return landmarks.types if group == 'clothes_type' else schema.VARIATIONS


@dataclasses.dataclass(frozen=True)
class Group:
  """The final stage on the images of one clothes type or variation.

  Attributes:
    name: The name of the clothes type or variation.
    count: The number of images.
    macro: Macro NE.
    median: The median NE of an image.
    high: The NE that 90 % of the images are below.
    outliers: The share of landmarks with an NE above 20 %.
  """

  name: str
  count: int
  macro: float | None
  median: float | None
  high: float | None
  outliers: float | None


@dataclasses.dataclass(frozen=True)
class Branch:
  """The images that the routing score sends to one branch.

  Attributes:
    name: 'easy' or 'hard'.
    count: The number of images.
    share: Their share of all images.
    macro: Stage -> macro NE of these images.
  """

  name: str
  count: int
  share: float
  macro: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class KeptCurve:
  """Micro NE if the least certain landmarks are left out.

  Attributes:
    name: What the landmarks are sorted by.
    table: NE at each of KEPT_SHARES.
    curve: NE at each of CURVE_SHARES.
  """

  name: str
  table: tuple[float | None, ...]
  curve: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
  """One image of the gallery.

  Attributes:
    rows: For each run, the image's row, or None if the run does not have it.
    reasons: For each run, why it was chosen: 'worst', 'best', 'spread' or None.
  """

  rows: tuple[int | None, ...]
  reasons: tuple[str | None, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
  """A run beside the first one, on the images that both were evaluated on.

  Attributes:
    label: The run's label.
    first: (m,) NE of the m images by the first run; NaN if not measured.
    other: (m,) NE of the same images by this run.
    count: The number of images that both have an NE of.
    mean_first: The first run's mean NE of those; None if there are none.
    mean_other: This run's mean NE of those.
    change: Their mean difference; below 0 this run is better.
    standard_error: The standard error of `change`, None for one image.
    better: The share of images with a smaller NE by this run.
  """

  label: str
  first: np.ndarray
  other: np.ndarray
  count: int
  mean_first: float | None = None
  mean_other: float | None = None
  change: float | None = None
  standard_error: float | None = None
  better: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class DataFacts:
  """The images and landmarks that a run was evaluated on.

  Attributes:
    total: The number of images.
    groups: 'clothes_type' and 'variation', if known -> name -> number of
      images.
    present: (N,) images whose garment has the landmark.
    states: (N, 3) how many of those are visible, occluded and truncated.
    positions: For each landmark, the (k, 2) positions in the box, of which each
      side counts as 1.
    ellipses: For each landmark, two standard deviations around its mean; None
      for fewer than two positions.
  """

  total: int
  groups: dict[str, dict[str, int]]
  present: np.ndarray
  states: np.ndarray
  positions: tuple[np.ndarray, ...]
  ellipses: tuple['SpreadEllipse | None', ...]


@dataclasses.dataclass(frozen=True, eq=False)
class SpreadEllipse:
  """An ellipse at two standard deviations, in shares of the box's sides.

  Attributes:
    centre: (2,) x, y.
    width: The length of the longer axis.
    height: The length of the shorter axis.
    angle: The angle of the longer axis against x in degrees.
  """

  centre: np.ndarray
  width: float
  height: float
  angle: float


@dataclasses.dataclass(frozen=True, eq=False)
class RunFacts:
  """What is known of one evaluated run; n images, N landmarks.

  Attributes:
    run: The loaded run, with its predictions and images.
    file_suffix: The end of the names of its own files; '' for a single run.
    caption_prefix: The start of the captions of its own figures and tables.
    counted: (n, N) mask of the landmarks that NE is measured of: visible ones.
    errors: Stage -> (n, N) NE, NaN where not counted; the final stage is last.
    image_errors: Stage -> (n,) mean NE of each image's visible landmarks; NaN
      for an image without any.
    exchanged: Stage -> (n,) mask of the images that fit better with left and
      right exchanged: their NE would be smaller if each landmark had the name
      of its partner.
    exchanged_outliers: The share of the final stage's outliers that those
      images have; None if there are no such images or no outliers.
    images_seen: The number of images in training, None if not known.
    groups: 'clothes_type' and 'variation' -> the groups that were measured.
    confusion: (3, 3) counts of the final stage, true by predicted visibility;
      None if no stage predicts it.
    branches: The easy and the hard branch; () without routing.
    routed_well: Stage -> Spearman's rank correlation of the routing score with
      the NE of the images by that stage, None where it is not defined; {}
      without routing.
    kept: One curve for each value that may tell how good a landmark is, the
      network's own confidence first.
    kept_at_best: The curve of landmarks that are sorted by the error itself.
    clusters: Stage -> its pseudo-labels' clusters, the largest first.
    published: Title -> NE that the papers print for this data set and model:
      the N landmarks', then the average.
    example_rows: The rows of the images that show the stages side by side.
  """

  run: EvaluatedRun
  file_suffix: str
  caption_prefix: str
  counted: np.ndarray
  errors: dict[str, np.ndarray]
  image_errors: dict[str, np.ndarray]
  exchanged: dict[str, np.ndarray]
  exchanged_outliers: float | None
  images_seen: int | None
  groups: dict[str, list[Group]]
  confusion: np.ndarray | None
  branches: tuple[Branch, ...]
  routed_well: dict[str, float | None]
  kept: tuple[KeptCurve, ...]
  kept_at_best: KeptCurve
  clusters: dict[str, list[Cluster]]
  published: dict[str, list]
  example_rows: np.ndarray

  @property
  def label(self) -> str:
    """What the report calls the run."""
    return self.run.label

  @property
  def stages(self) -> list[str]:
    """The names of the stages, the final one last."""
    return self.run.stages

  @property
  def final(self) -> str:
    """The name of the final stage."""
    return self.run.final

  @property
  def guess_macro(self) -> float | None:
    """Macro NE of the mean positions; None if they were not measured."""
    return self.run.guess['ne']['macro'] if self.run.guess else None

  @property
  def calibration(self) -> dict | None:
    """What metrics.json holds of the calibration; None without one."""
    return self.run.figures.get('calibration')

  @property
  def final_figures(self) -> dict:
    """What metrics.json holds of the final stage."""
    return self.run.figures['stages'][self.final]


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
  """One stage of one run, as what a plot compares with others.

  Attributes:
    figures: What metrics.json holds of the stage.
    histogram: Share of the measured landmarks in each bin of ERROR_EDGES.
    by_landmark: (N, 3) mean, median and 90 % quantile of the NE of each
      landmark; NaN where not measured.
    pdl_by_landmark: (N, T) share of the visible landmarks within each of
      `normalised_error.PDL_THRESHOLDS`; NaN where not measured.
    pdl_by_group: 'clothes_type' and 'variation' -> name -> (T,) the same of all
      landmarks of the group's images.
  """

  figures: dict
  histogram: np.ndarray
  by_landmark: np.ndarray
  pdl_by_landmark: np.ndarray
  pdl_by_group: dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
  """What is known of the runs that a report is on.

  Attributes:
    runs: The facts of each run, in the order in which they were given; at least
      one.
    series: Label -> what plots compare: the stages of a single run, or the
      final stage of each of several runs.
    history: The records of all trainings, see `curves.plot_training`.
    comparisons: Each run but the first, beside the first one.
    data: The first run's data.
    num_means: The number of images that the mean images are taken of.
    patches: N mean images of the surroundings of each landmark, see
      `mean_images.crops_and_patches`.
    examples: The images of the gallery.
  """

  runs: tuple[RunFacts, ...]
  series: dict[str, Series]
  history: list[dict]
  comparisons: tuple[Comparison, ...]
  data: DataFacts
  num_means: int
  patches: list[np.ndarray]
  examples: list[Example]

  @property
  def first(self) -> RunFacts:
    """The first run, which others are compared with."""
    return self.runs[0]

  @property
  def landmarks(self) -> schema.LandmarkSet:
    """The N landmarks that all runs share."""
    return self.first.run.predictions.landmark_set

  @property
  def is_single(self) -> bool:
    """True for a report on one run, False for a comparison."""
    return len(self.runs) == 1

  @property
  def norm(self) -> str:
    """What NE is divided by, a name of `normalised_error.NORMS`."""
    return self.first.run.figures['norm']
