"""What a request asks for: photos, and the boxes of the items on them.

A POST of multipart/form-data:
  images   a file for each photo, up to `Limits.images` of them
  boxes    optional, once: JSON, a list with an entry for each photo: null (the
           item fills its photo), a box [x1, y1, x2, y2] in pixels of the photo,
           or a list of boxes, one for each item on it
"""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from fld_jax.errors import printable, shortened

FORM = 'multipart/form-data'
PART_BYTES = 2**20  # of the field `boxes`


class Refused(Exception):
  """A request that gets no prediction.

  Attributes:
    status: The HTTP status.
    headers: Headers of the answer, beside the usual ones.
  """

  def __init__(self, status: int, sentence: str, **headers: str):
    super().__init__(sentence)
    self.status = status
    self.headers = {k.replace('_', '-'): v for k, v in headers.items()}


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a service takes.

  Attributes:
    images: The most photos of a request, and the most items.
    bytes: The most bytes of a request.
    pixels: The most pixels of a photo.
    queue: The most items that are under way at a time.
    seconds: The longest time that a request is read, and that it is worked on.
  """

  images: int = 16
  bytes: int = 32 * 2**20
  pixels: int = 40_000_000
  queue: int = 256
  seconds: float = 30.0


class Asked(NamedTuple):
  """What a request asks for.

  Attributes:
    names: The name of each photo.
    contents: The bytes of each photo's file.
    items: (photo, box) of each item: the index of its photo, and four numbers
      or None; the items of a photo stand side by side.
  """

  names: list[str]
  contents: list[bytes]
  items: list[tuple[int, list[float] | None]]


async def read(request: Request, limits: Limits) -> Asked:
  """Reads a request.

  Args:
    request: The request, whose body was not read yet.
    limits: What the service takes.

  Raises:
    Refused: The request cannot be understood, is too large, or is sent too
      slowly.
  """
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != FORM:
    raise Refused(
      415,
      f"The content type is '{printable(kind)}', must be {FORM} with a file "
      "'images' for each photo.",
    )
  limited = Request(request.scope, _limited(request, limits.bytes))
  try:
    async with asyncio.timeout(limits.seconds):
      form = await limited.form(
        max_files=limits.images, max_fields=2, max_part_size=PART_BYTES
      )
  except TimeoutError:
    raise Refused(
      408, f'The request was not sent within {limits.seconds:g} s.'
    ) from None
  except ClientDisconnect:
    raise Refused(400, 'The request was not sent to its end.') from None
  except HTTPException as error:  # Starlette's word for a form that is wrong
    if error.detail.startswith('Too many files'):
      raise Refused(413, _too_many('photos', limits)) from None
    sentence = f'The form cannot be read: {printable(error.detail)}'
    raise Refused(400, sentence) from None
  except (ValueError, KeyError, UnicodeError) as error:  # of its parser
    sentence = f'The form cannot be read: {printable(str(error))}.'
    raise Refused(400, sentence) from None
  try:
    return await _asked(form, limits)
  finally:
    await form.close()


def _limited(
  request: Request, most: int
) -> Callable[[], Awaitable[dict[str, Any]]]:
  """The messages of a request's body, of which too many bytes are refused."""
  words = f'The request has more than {most} bytes, which are the most.'
  length = request.headers.get('content-length', '')
  if length.isdecimal() and int(length) > most:
    raise Refused(413, words, connection='close')
  size = 0

  async def receive() -> dict[str, Any]:
    nonlocal size
    message = await request.receive()
    size += len(message.get('body', b''))
    if size > most:
      raise Refused(413, words, connection='close')
    return message

  return receive


def _too_many(what: str, limits: Limits) -> str:
  return f'The request has more than {limits.images} {what}.'


async def _asked(form: FormData, limits: Limits) -> Asked:
  """What a form asks for."""
  for key in form:
    if key not in ('images', 'boxes'):
      raise Refused(
        400,
        f"The field '{printable(key)}' is unknown, valid are images and boxes.",
      )
  files = form.getlist('images')
  if not files:
    raise Refused(400, "There is no photo: give a file 'images' for each.")
  names, contents = [], []
  for i, file in enumerate(files):
    if not isinstance(file, UploadFile):
      raise Refused(400, f'images[{i}] is no file: its part needs a file name.')
    name = file.filename or f'image {i}'
    if name in names:
      raise Refused(
        422,
        f"images[{i}] has the name '{printable(name)}' of another photo: give "
        'each a name of its own, and the boxes of one photo as a list.',
      )
    content = await file.read()
    if not content:
      raise Refused(422, f"images[{i}], '{printable(name)}', is empty.")
    names.append(name)
    contents.append(content)
  given = form.getlist('boxes')
  if len(given) > 1 or any(isinstance(text, UploadFile) for text in given):
    raise Refused(400, "The field 'boxes' must be one text, and no file.")
  items = [(i, None) for i in range(len(names))]
  if given:
    items = _items(given[0], len(names))
  if len(items) > limits.images:
    raise Refused(413, _too_many('items', limits))
  return Asked(names, contents, items)


def _items(text: str, count: int) -> list[tuple[int, list[float] | None]]:
  """The items that the field `boxes` names on a number of photos."""
  must = (
    'must be a JSON list with an entry for each photo: null, a box [x1, y1, '
    'x2, y2] or a list of boxes'
  )
  try:
    boxes = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise Refused(
      422, f"The field 'boxes' is no JSON ({printable(str(error))}), {must}."
    ) from None
  if not isinstance(boxes, list) or len(boxes) != count:
    given = (
      f'has {len(boxes)} entries for {count} photos'
      if isinstance(boxes, list)
      else f'is {shortened(boxes)}'
    )
    raise Refused(422, f"The field 'boxes' {given}, {must}.")
  items = []
  for i, entry in enumerate(boxes):
    several = isinstance(entry, list) and entry and _is_list(entry)
    for box in entry if several else [entry]:
      if box is not None and not _is_box(box):
        raise Refused(422, f'boxes[{i}] is {shortened(box)}, {must}.')
      items.append((i, box))
  return items


def _is_list(entry: list) -> bool:
  return all(isinstance(box, list) for box in entry)


def _is_box(box: Any) -> bool:
  is_number = lambda x: isinstance(x, int | float) and not isinstance(x, bool)
  return (
    isinstance(box, list)
    and len(box) == 4
    and all(is_number(x) and abs(x) < 1e9 for x in box)
  )
