"""Exceptions for user errors and interrupted runs."""

import reprlib
from collections import Counter
from typing import Any

# Exit status of a run that wants to be started again: sysexits' EX_TEMPFAIL.
START_AGAIN = 75
MAX_EXAMPLES = 3  # of the rows that are left out for one reason


class InputError(Exception):
  """Bad input; the message is a sentence that names file, line and field.

  `main` prints it without a traceback and exits with status 2. Everything
  else that is raised is a defect of fld_jax and keeps its traceback.

  Attributes:
    kind: The kind of mistake that `--mode=doctor` counts it as, a key of
      `doctor.examine.KINDS`; or 'config' if a setting is wrong, not a file.
  """

  def __init__(self, message: str, kind: str = 'form'):
    super().__init__(message)
    self.kind = kind


class Unwritable(Exception):
  """What was to be written could not be: a full or read-only disk.

  `main` prints it without a traceback and exits with status 1: what is to be
  mended is the disk, and the same command then goes on.
  """


class LostProcess(Exception):
  """Another process of the run ended or hangs, so this one must end too."""


class Preempted(Exception):
  """The run was asked to end (SIGTERM) and has saved a checkpoint."""


def printable(text: str, longest: int = 200) -> str:
  """Text from a file as messages show it: in one line of limited length.

  Args:
    text: Any text; characters that do not print are escaped.
    longest: The number of characters after which the rest is left out.
  """
  rest = '...' if len(text) > longest else ''
  printed = (c if c.isprintable() else ascii(c)[1:-1] for c in text[:longest])
  return ''.join(printed) + rest


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 2, 60, 60


def shortened(value: Any) -> str:
  """A value of a file as messages show it: short, in one line, printable."""
  return printable(_REPR.repr(value))


class Findings:
  """Collects the mistakes that a reader finds, and counts omitted rows.

  Readers yield rows one by one; those of lists and CSVs need no more memory for
  a million rows than for a thousand. They hand every mistake to `mistake` and,
  if it returns, go on without the row.

  Attributes:
    strict: Whether the first mistake ends the reading.
    left_out: Reason -> number of rows that are left out and not mistakes.
    left_out_examples: Reason -> names of the first few rows that are left out.
    notes: What is worth knowing and no mistake -> how often it was seen.
    mistakes: The collected mistakes; empty if `strict`.
  """

  def __init__(self, strict: bool = True):
    """Creates a collector without findings.

    Args:
      strict: Whether `mistake` raises the first mistake.
    """
    self.strict = strict
    self.left_out: Counter = Counter()
    self.left_out_examples: dict[str, list[str]] = {}
    self.notes: Counter = Counter()
    self.mistakes: list[InputError] = []

  def mistake(self, error: InputError) -> None:
    """Raises the mistake if `strict`, otherwise collects it.

    Args:
      error: The mistake.
    """
    if self.strict:
      raise error
    self.mistakes.append(error)

  def leave_out(self, reason: str, example: str) -> None:
    """Counts a row that is left out and no mistake.

    Args:
      reason: Why it is left out.
      example: What names the row.
    """
    self.left_out[reason] += 1
    if self.left_out[reason] <= MAX_EXAMPLES:
      self.left_out_examples.setdefault(reason, []).append(example)
