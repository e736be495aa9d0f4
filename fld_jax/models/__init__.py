"""Networks and trunks by the names that a config gives them."""

from fld_jax.models import (
  attributes,
  deeppose,
  dfa,
  dlan,
  efficientnet,
  fashionnet,
  fgn,
  fpn,
  idpr,
  resnet,
  simcc,
  simple_baselines,
  top_down,
  vgg,
)

# config.model.name -> Linen module with a field `backbone`.
NETWORKS = {
  'attributes': attributes.Attributes,
  'deeppose': deeppose.DeepPose,
  'dfa': dfa.DFA,
  'dlan': dlan.DLAN,
  'fashionnet': fashionnet.FashionNet,
  'fgn': fgn.FGN,
  'fpn': fpn.FPN,
  'idpr': idpr.IDPR,
  'simcc': simcc.SimCC,
  'simple_baselines': simple_baselines.SimpleBaselines,
  'top_down': top_down.TopDown,
}
# config.model.backbone -> the trunk's class and those of its fields that the
# name sets. The other fields are options, `config.model.trunk`.
TRUNKS = {
  'vgg16': (vgg.VGG, {}),
  **{
    f'resnet{depth}': (resnet.ResNet, {'depth': depth})
    for depth in resnet.LAYOUTS
  },
  **{
    f'efficientnet_{size}': (efficientnet.EfficientNet, {'size': size})
    for size in efficientnet.SIZES
  },
}
