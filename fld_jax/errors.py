"""The one exception for mistakes that a user can mend."""


class InputError(Exception):
  """Bad input: one sentence that names the file, the line or the field.

  `main` prints it without a traceback and exits with status 2. Everything
  else that is raised is a defect of fld_jax and keeps its traceback.

  Attributes:
    kind: of mistakes in a folder of files, what `--mode=doctor` counts it as: a
      key of `doctor.KINDS`; or 'config' if a setting is wrong, not the folder.
  """

  def __init__(self, message: str, kind: str = 'form'):
    super().__init__(message)
    self.kind = kind
