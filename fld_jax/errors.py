"""The one exception for mistakes that a user can mend."""


class InputError(Exception):
  """Bad input: one sentence that names the file, the line or the field.

  `main` prints it without a traceback and exits with status 2. Everything
  else that is raised is a defect of fld_jax and keeps its traceback.
  """
