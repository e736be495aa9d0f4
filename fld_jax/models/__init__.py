"""Networks by the name that a config gives them."""

from fld_jax.models import dfa

MODELS = {'dfa': dfa.DFA}
