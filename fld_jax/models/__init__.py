"""Networks by the name that a config gives them."""

from fld_jax.models import dfa, fashionnet, fpn, simple_baselines

MODELS = {
  'dfa': dfa.DFA,
  'fashionnet': fashionnet.FashionNet,
  'fpn': fpn.FPN,
  'resnet_regression': fashionnet.ResNetRegression,
  'simple_baselines': simple_baselines.SimpleBaselines,
}
