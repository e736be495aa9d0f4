"""What TFDS keeps about a data set, for data sets that are on this machine."""

import tensorflow_datasets as tfds


class DatasetInfo(tfds.core.DatasetInfo):
  """TFDS's own, which looks for nothing elsewhere."""

  def initialize_from_bucket(self) -> None:
    """Does nothing: TFDS's servers have none of these data sets.

    TFDS would leave an empty temporary folder behind whenever a builder is made
    whose data are not prepared.
    """
