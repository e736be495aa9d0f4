"""Networks by the name that a config gives them."""

from fld_jax.models import dfa, fpn, regression, simple_baselines

MODELS = {
  'dfa': dfa.DFA,
  'fashionnet': regression.FashionNet,
  'fpn': fpn.FPN,
  'resnet_regression': regression.ResNetRegression,
  'simple_baselines': simple_baselines.SimpleBaselines,
}
