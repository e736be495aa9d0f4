"""The objective of a stage: each loss of its outputs, one value an example.

LOSSES is the table of all losses. A new loss is a function here, its row in
LOSSES, and its weight in `defaults.stage`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from ml_collections import ConfigDict

from fld_jax import schema
from fld_jax.cascade import pseudo_labels
from fld_jax.cascade.forward import READERS, new_estimate
from fld_jax.cascade.relations import place_parts
from fld_jax.cascade.setup import Setup
from fld_jax.errors import InputError
from fld_jax.landmark_sets import Tree
from fld_jax.ops import pictorial
from fld_jax.ops.bins import Bins
from fld_jax.ops.heatmaps import Codec, to_index
from fld_jax.training import losses

PC_SPACES = ('input_px', 'heatmap_px', 'normalized')  # docs/methods.md 4.3
PC_MASKS = {  # docs/methods.md 4.5
  'annotated': schema.has_position,
  'visible': lambda visibility: visibility == schema.VISIBLE,
}
# From this distance on, in sides of the crop, a part counts as lost in the
# structured hinge loss.
REACH = 0.1
# Values of the examples, and which of them the loss's mean is over.
Values = tuple[Float[Array, ' b'], Bool[Array, ' b']]


@dataclasses.dataclass(frozen=True, eq=False)
class PositionConstraint:
  """The settings of PCLoss (Song et al., 2021; docs/methods.md 4.3 to 4.5).

  Attributes:
    parts: Landmark slots of each part; pairs are formed within a part.
    k: How many landmarks of a part count: those whose share of the loss is the
      largest.
    space: One of PC_SPACES, the unit that distances are measured in.
    mask: One of PC_MASKS, the landmarks that form pairs.
    pair_mean: Divide by the number of pairs.
    crop_side: Side of the crop in pixels, for 'input_px'.
  """

  parts: tuple[tuple[int, ...], ...]
  k: int
  space: str
  mask: str
  pair_mean: bool
  crop_side: int

  def scale(self, outputs: dict[str, Array]) -> float:
    """What normalised coordinates are multiplied by before PCLoss."""
    if self.space == 'heatmap_px':
      return outputs['heatmaps'].shape[1]
    return self.crop_side if self.space == 'input_px' else 1.0


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
  """What a stage's network is trained towards.

  Attributes:
    stage: The stage's config: `weights`, `landmark_loss`, `pseudo_label`.
    network: The network's name, for messages.
    offset_scale: See `forward.Forward`.
    codec: The stage's heatmaps, read by a decoder that has a gradient.
    position_constraint: The settings of PCLoss.
    tree: The parts of IDPR and its edges.
    categories: The codes of the clothes types, in the order of the network's
      output `category`.
    pairs: (P, 2) the slots of landmarks and their partners.
  """

  stage: ConfigDict
  network: str
  offset_scale: float
  codec: Codec
  position_constraint: PositionConstraint
  tree: Tree
  categories: tuple[int, ...] = ()
  pairs: np.ndarray | None = None

  @classmethod
  def of(cls, config: ConfigDict, setup: Setup, index: int) -> 'Objective':
    """The objective of a stage.

    Args:
      config: The run's config.
      setup: The objects that the config resolves to.
      index: Which of `config.stages` it is.
    """
    options = config.position_constraint
    stage = config.stages[index]
    return cls(
      stage=stage,
      network=config.model.name,
      offset_scale=setup.forward.offset_scale,
      codec=setup.forward.codec.differentiable(),
      position_constraint=PositionConstraint(
        parts=setup.landmarks.partitions[options.partition],
        k=options.k,
        space=options.space,
        mask=options.mask,
        pair_mean=options.pair_mean,
        crop_side=setup.pipeline.size,
      ),
      categories=tuple(setup.landmarks.types),
      pairs=setup.landmarks.pairs if stage.weights.pair_order else None,
      tree=setup.tree,
    )


class Terms(NamedTuple):
  """What a loss is computed from.

  Attributes:
    outputs: The network's outputs, with `landmarks`.
    truth: (b, N, 2) true landmarks, normalised.
    visibility: (b, N) true visibility codes.
    estimate: (b, N, 2) the previous stage's landmarks as the network sees them,
      perhaps with noise; None for stage 1.
    clean: (b, N, 2) the same without noise. Clusters and their errors are of
      these, so pseudo-labels are as well.
    clusters: Holds `centres` (K, D); {} for a stage without pseudo-labels.
    objective: The stage's settings.
    clothes_type: (b,) codes of the clothes types, 0 where not known.
    attributes: (b, A) labels of attributes: 1 has it, -1 has it not, 0 is not
      known; None where no loss asks for them.
  """

  outputs: dict[str, Array]
  truth: Float[Array, 'b n 2']
  visibility: Int[Array, 'b n']
  estimate: Float[Array, 'b n 2'] | None
  clean: Float[Array, 'b n 2'] | None
  clusters: dict[str, Any]
  objective: Objective
  clothes_type: Int[Array, ' b'] | None = None
  attributes: Int[Array, 'b A'] | None = None


def _landmarks(terms: Terms) -> Values:
  """Distance of the landmarks; of later stages, of the scaled offsets."""
  target = terms.truth
  if terms.estimate is not None:
    target = terms.objective.offset_scale * (terms.estimate - terms.truth)
  kind = terms.objective.stage.landmark_loss
  loss = losses.positions(
    terms.outputs['landmarks'], target, terms.visibility, kind
  )
  return loss, _everyone(terms)


def _heatmaps(terms: Terms) -> Values:
  """Squared distance of the heatmaps to Gaussians around the truth."""
  maps = terms.outputs['heatmaps']
  target = terms.objective.codec.encode(terms.truth, maps.shape[1])
  return losses.heatmaps(maps, target, terms.visibility), _everyone(terms)


def _heatmap_entropy(terms: Terms) -> Values:
  """Cross-entropy of the heatmaps, as logits, and the same Gaussians."""
  logits = terms.outputs['heatmap_logits']
  target = terms.objective.codec.encode(terms.truth, logits.shape[1])
  loss = losses.heatmap_entropy(logits, target, terms.visibility)
  return loss, _everyone(terms)


def _bins(terms: Terms) -> Values:
  """Divergence of the labels of x and y from the bins."""
  logits = terms.outputs['bins']
  labels = Bins(terms.objective.codec.sigma).labels(
    terms.truth, logits.shape[-1]
  )
  return losses.bins(logits, labels, terms.visibility), _everyone(terms)


def _position_constraint(terms: Terms) -> Values:
  """PCLoss of the landmarks; examples without a pair don't count."""
  options = terms.objective.position_constraint
  scale = options.scale(terms.outputs)
  found = new_estimate(
    terms.outputs, terms.estimate, terms.objective.offset_scale
  )
  mask = PC_MASKS[options.mask](terms.visibility)
  loss = losses.position_constraint(
    scale * found,
    scale * terms.truth,
    mask,
    options.parts,
    options.k,
    options.pair_mean,
  )
  return loss, losses.has_pair(mask, options.parts)


def _scaled_landmarks(terms: Terms) -> Values:
  """Scale-regularised regression of DLAN, over its looks and the landmarks."""
  outputs = terms.outputs
  loss = losses.scale_regularised(
    jnp.concatenate([outputs['looks'], outputs['landmarks'][:, None]], axis=1),
    jnp.concatenate(
      [outputs['log_scales'], outputs['log_scales'][:, -1:]], axis=1
    ),
    terms.truth,
    terms.visibility,
    terms.objective.stage.landmark_loss,
  )
  return loss, _everyone(terms)


def _parts(terms: Terms) -> Values:
  """Cross-entropy of what each patch shows."""
  bells, _, known = _true_parts(terms)
  return losses.parts(terms.outputs['parts'], bells, known), _everyone(terms)


def _relations(terms: Terms) -> Values:
  """Cross-entropy of the types of the parts' relations."""
  bells, truth, known = _true_parts(terms)
  start, end = np.array(pictorial.relations(terms.objective.tree.parents)).T
  way = truth[:, end] - truth[:, start]
  gaps = way[:, :, None] - terms.outputs['displacements']
  labels = jnp.argmin(jnp.sum(gaps**2, axis=-1), axis=-1)
  loss = losses.relations(
    terms.outputs['relations'],
    labels,
    bells[..., start],
    known[:, start] & known[:, end],
  )
  return loss, _everyone(terms)


def _tree(terms: Terms) -> Values:
  """Structured hinge loss of the tree, a mean over the parts."""
  _, truth, known = _true_parts(terms)
  fields = pictorial.Potentials._fields
  potentials = pictorial.Potentials(*(terms.outputs[x] for x in fields))
  side = potentials.unary.shape[-1]
  cells = jnp.clip(jnp.round(to_index(truth, side)), 0, side - 1)
  loss = pictorial.hinge(
    potentials,
    terms.objective.tree.parents,
    cells.astype(jnp.int32),
    known,
    REACH * side,
  )
  count = jnp.sum(known, axis=-1)
  return loss / jnp.maximum(count, 1), count > 0


def _true_parts(
  terms: Terms,
) -> tuple[Float[Array, 'b w w p'], Float[Array, 'b p 2'], Bool[Array, 'b p']]:
  """The parts' Gaussians, their normalised places, and which are known."""
  places, known = place_parts(
    terms.truth, terms.visibility, terms.objective.tree
  )
  codec = dataclasses.replace(terms.objective.codec, amplitude=1.0, shift=0.0)
  return codec.encode(places, terms.outputs['parts'].shape[1]), places, known


def _pair_order(terms: Terms) -> Values:
  """Cross-entropy of the order of left and right landmarks."""
  loss = losses.pair_order(
    terms.outputs['pair_order'],
    terms.truth,
    terms.visibility,
    terms.objective.pairs,
  )
  return loss, _everyone(terms)


def _attributes(terms: Terms) -> Values:
  """Cross-entropy of the attributes; images without a label don't count."""
  labels = terms.attributes
  loss = losses.attributes(terms.outputs['attributes'], labels)
  return loss, (labels != 0).any(axis=-1)


def _visibility(terms: Terms) -> Values:
  """Cross-entropy of the visibility of each landmark."""
  loss = losses.visibility(terms.outputs['visibility'], terms.visibility)
  return loss, _everyone(terms)


def _pseudo_label(terms: Terms) -> Values:
  """Distance to the soft label of the example's clusters."""
  label = terms.objective.stage.pseudo_label
  vectors = pseudo_labels.label_vectors(
    terms.truth,
    terms.visibility,
    terms.clean,
    space=label.space,
    context_transform=label.context_transform,
  )
  target = pseudo_labels.soft_labels(
    *vectors,
    terms.clusters['centres'],
    temperature=label.temperature,
    normalize=label.normalize,
  )
  loss = losses.pseudo_label(terms.outputs, target, label.loss)
  return loss, _everyone(terms)


def _category(terms: Terms) -> Values:
  """Cross-entropy of the clothes type; unknown ones don't count."""
  codes = jnp.asarray(terms.objective.categories)
  truth = terms.clothes_type[:, None] == codes
  loss = optax.softmax_cross_entropy(terms.outputs['category'], truth)
  return loss, jnp.any(truth, axis=-1)


def _everyone(terms: Terms) -> Bool[Array, ' b']:
  return jnp.ones(terms.truth.shape[0], bool)


class Loss(NamedTuple):
  """A row of LOSSES.

  Attributes:
    output: The network's output that the loss needs.
    function: Computes its values, one an example.
  """

  output: str
  function: Callable[[Terms], Values]


# By the names of `defaults.stage`'s weights.
LOSSES = {
  'landmarks': Loss('landmarks', _landmarks),
  'heatmaps': Loss('heatmaps', _heatmaps),
  'heatmap_entropy': Loss('heatmap_logits', _heatmap_entropy),
  'bins': Loss('bins', _bins),
  'scaled_landmarks': Loss('looks', _scaled_landmarks),
  'position_constraint': Loss('landmarks', _position_constraint),
  'category': Loss('category', _category),
  'parts': Loss('parts', _parts),
  'relations': Loss('relations', _relations),
  'tree': Loss('unary', _tree),
  'pair_order': Loss('pair_order', _pair_order),
  'attributes': Loss('attributes', _attributes),
  'visibility': Loss('visibility', _visibility),
  'pseudo_label': Loss('pseudo_label', _pseudo_label),
}
# Those that say where landmarks are, as PCLoss does.
PLACE_LOSSES = (
  'landmarks',
  'heatmaps',
  'heatmap_entropy',
  'bins',
  'scaled_landmarks',
  'position_constraint',
)


def stage_losses(
  outputs: dict[str, Array],
  batch: dict[str, Array],
  estimate: Float[Array, 'b n 2'] | None,
  clusters: dict[str, Any],
  objective: Objective,
  names: Iterable[str] = tuple(LOSSES),
  *,
  clean: Float[Array, 'b n 2'] | None = None,
) -> dict[str, Values]:
  """Each loss of a stage, one value an example.

  Args:
    outputs: The network's outputs.
    batch: Holds `landmarks` and `visibility`, and for their losses
      `clothes_type` and `attributes`.
    estimate: (b, N, 2) the previous stage's landmarks as the network sees them,
      None for stage 1.
    clusters: Holds `centres` (K, D); {} for a stage without pseudo-labels.
    objective: The stage's objective.
    names: The losses to compute, of LOSSES.
    clean: (b, N, 2) the previous stage's landmarks without noise; None if
      `estimate` has none.

  Returns:
    Name of the loss -> (values (b,), counts (b,) bool: the examples that its
    mean is over), for those whose weight is not 0.

  Raises:
    InputError: If a weight is not 0 and the network lacks the output.
  """
  if 'heatmap_logits' in outputs:  # so that all losses' gradients get there
    maps = jax.nn.sigmoid(outputs['heatmap_logits'])
    outputs = {**outputs, 'heatmaps': maps}
  for name in filter(outputs.__contains__, READERS):
    # Both losses on coordinates want a decoder with a gradient.
    landmarks = READERS[name](objective.codec).decode([outputs[name]])
    outputs = {**outputs, 'landmarks': landmarks}
  terms = Terms(
    outputs,
    batch['landmarks'],
    batch['visibility'],
    estimate,
    estimate if clean is None else clean,
    clusters,
    objective,
    batch.get('clothes_type'),
    batch.get('attributes'),
  )
  weighted = [name for name in names if objective.stage.weights[name]]
  _check(outputs, objective, weighted)
  return {name: LOSSES[name].function(terms) for name in weighted}


def check_outputs(outputs: Iterable[str], objective: Objective) -> None:
  """Refuses losses on what the network does not predict.

  Args:
    outputs: Names of the network's outputs; a network with `heatmaps` or
      `bins` has `landmarks` too.
    objective: The stage's objective.

  Raises:
    InputError: Naming the loss, the output and those that there are.
  """
  names = [name for name in LOSSES if objective.stage.weights[name]]
  _check(outputs, objective, names)


def _check(
  outputs: Iterable[str], objective: Objective, names: Iterable[str]
) -> None:
  there = list(outputs)
  if READERS.keys() & set(there) and 'landmarks' not in there:
    there.append('landmarks')
  for name in names:
    output = LOSSES[name].output
    if output not in there:
      raise InputError(
        f"The loss '{name}' of stage '{objective.stage.name}' has weight "
        f'{objective.stage.weights[name]}, but the network has no output '
        f"'{output}': it has {', '.join(there)}."
      )
  amplitude = objective.codec.amplitude
  if 'heatmap_logits' in there and amplitude != 1:
    raise InputError(
      f'config.heatmap.amplitude is {amplitude}, and the heatmaps of the '
      f"network '{objective.network}' go up to 1: set it to 1."
    )
  constrained = 'position_constraint' in names
  space = objective.position_constraint.space
  if constrained and space == 'heatmap_px' and 'heatmaps' not in there:
    raise InputError(
      "config.position_constraint.space is 'heatmap_px', but the network "
      f"'{objective.network}' has no heatmaps: valid values are 'input_px' and "
      "'normalized'."
    )
