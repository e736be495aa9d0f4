"""The exceptions that are no defects of fld_jax, and how they end a run."""

from collections import Counter

# Exit status of a run that wants to be started again: sysexits' EX_TEMPFAIL.
START_AGAIN = 75


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


class LostProcess(Exception):
  """Another process of the run is gone or stuck, so this one must end too."""


class Preempted(Exception):
  """The run was asked to end (SIGTERM) and has saved what it can go on from."""


def printable(text: str, longest: int = 200) -> str:
  """A file's own text as messages show it: in one line, and not for pages.

  Args:
    text: anything; what does not print is escaped.
    longest: characters before the rest is left out.
  """
  rest = '...' if len(text) > longest else ''
  printed = (c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
  return ''.join(printed) + rest


class Findings:
  """What a reader finds beside rows.

  Readers yield rows one by one, and those of lists and CSVs need no more memory
  for a million of them than for a thousand. They hand every mistake to
  `mistake`, and go on without the row if it returns.

  Attributes:
    left_out: why rows are left out that are no mistakes -> how many.
    mistakes: what `mistake` was given, if not `strict`.
  """

  def __init__(self, strict: bool = True):
    """With `strict`, the first mistake ends the reading."""
    self.strict = strict
    self.left_out: Counter = Counter()
    self.mistakes: list[InputError] = []

  def mistake(self, error: InputError) -> None:
    """Raises the error, or keeps it."""
    if self.strict:
      raise error
    self.mistakes.append(error)
