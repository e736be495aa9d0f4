"""Where the checkout and the real images beside it lie."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
SHARED = ROOT.parent / 'shared/data'
