"""The HTTP service: a predictor behind FastAPI.

  POST /predict   photos in, see `requests`; out the object that
                  `--mode=predict` writes to predictions.json for these photos
  GET /healthz    200 while the process lives
  GET /readyz     200 while it takes requests; 503 before and after
  GET /metrics    for Prometheus
  GET /docs       the OpenAPI page

Whatever is refused is {"error": SENTENCE} with a status of 4xx, or 503 and 504
if the time was not enough.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import prometheus_client
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fld_jax.errors import InputError, printable
from fld_jax.files import file_names, images
from fld_jax.inference import coco_output
from fld_jax.inference.landmarks import Landmarks
from fld_jax.inference.predictor import Predictor
from fld_jax.schema import LandmarkSet
from fld_jax.service import requests
from fld_jax.service.batching import Batcher
from fld_jax.service.requests import Asked, Limits, Refused

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
  """What the service counts, in a registry of its own."""

  def __init__(self):
    self.registry = registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    prometheus_client.PlatformCollector(registry=registry)
    histogram = lambda name, words, buckets: prometheus_client.Histogram(
      f'fld_jax_{name}', words, buckets=buckets, registry=registry
    )
    self.requests = prometheus_client.Counter(
      'fld_jax_requests',
      'Requests for predictions that were answered, by status',
      ['status'],
      registry=registry,
    )
    self.items = prometheus_client.Counter(
      'fld_jax_items', 'Items whose landmarks were found', registry=registry
    )
    self.under_way = prometheus_client.Gauge(
      'fld_jax_items_under_way', 'Items of open requests', registry=registry
    )
    self.request_seconds = histogram(
      'request_seconds', 'Time of a prediction request that was ok', SECONDS
    )
    self.batch_seconds = histogram(
      'batch_seconds', 'Time in which a batch was computed', SECONDS
    )
    self.batch_items = histogram(
      'batch_items', 'Items of a batch', (1, 2, 4, 8, 16, 32, 64)
    )


class Service:
  """A predictor, the queue before it, and the state of the process.

  Attributes:
    limits: What is taken.
    metrics: What is counted.
    is_draining: Whether the process is about to end.
    num_begun: The number of HTTP requests that have come.
    num_answered: The number of those whose answer was handed on whole.
  """

  def __init__(self, predictor: Predictor, limits: Limits, deadline: float):
    """Makes the service; `running` starts it.

    Args:
      predictor: The loaded run.
      limits: What is taken.
      deadline: The longest time in seconds that a batch waits for more items.
    """
    self.limits, self.metrics = limits, Metrics()
    self.is_draining = False
    self.num_begun = self.num_answered = 0
    self._predictor = predictor
    self._under_way = 0
    self._cutters = concurrent.futures.ThreadPoolExecutor(
      len(os.sched_getaffinity(0)), 'photos'
    )
    self._batcher = Batcher(
      self._compute, predictor.shapes[-1], deadline, lambda: self._under_way
    )

  @contextlib.asynccontextmanager
  async def running(self) -> AsyncIterator[None]:
    """Computes batches, as long as it is open."""
    task = asyncio.create_task(self._batcher.run())
    try:
      yield
    finally:
      task.cancel()
      self._batcher.close()
      self._cutters.shutdown()

  def _compute(self, examples: list[dict]) -> list[Landmarks | None]:
    """The landmarks of a batch, in the thread of the batches."""
    start = time.perf_counter()
    found = self._predictor.predict_prepared(examples)
    self.metrics.batch_seconds.observe(time.perf_counter() - start)
    self.metrics.batch_items.observe(len(examples))
    return found

  @contextlib.contextmanager
  def _taken(self, count: int) -> Iterator[None]:
    """Takes up items, or refuses them.

    Args:
      count: The number of items.

    Raises:
      Refused: There are too many under way.
    """
    if self._under_way + count > self.limits.queue:
      raise Refused(
        429,
        f'There are {self._under_way} items under way, of at most '
        f'{self.limits.queue}: try again later.',
        retry_after='1',
      )
    self._under_way += count
    self.metrics.under_way.set(self._under_way)
    try:
      yield
    finally:
      self._under_way -= count
      self.metrics.under_way.set(self._under_way)

  async def predict(self, request: Request) -> Response:
    """The answer to a request for predictions.

    Args:
      request: The request, whose body was not read yet.
    """
    start = time.perf_counter()
    status, headers = 200, {}
    try:
      content = await self._predict(request)
    except Refused as error:
      status, headers, content = error.status, error.headers, _error(error)
    except InputError as error:
      status, content = 422, _error(error)
    except Exception:
      self.metrics.requests.labels(500).inc()
      raise
    else:
      self.metrics.items.inc(len(content['annotations']))
      self.metrics.request_seconds.observe(time.perf_counter() - start)
    self.metrics.requests.labels(status).inc()
    return JSONResponse(content, status, headers)

  async def _predict(self, request: Request) -> dict[str, Any]:
    """The object of a request's predictions.

    Raises:
      Refused: There is none, for the way or the time of the request.
      InputError: A photo or box cannot be used.
    """
    with contextlib.ExitStack() as stack:
      # One until it is read: then it is known how many there are.
      stack.enter_context(self._taken(1))
      asked = await requests.read(request, self.limits)
      stack.enter_context(self._taken(len(asked.items) - 1))
      waiting = []
      try:
        async with asyncio.timeout(self.limits.seconds):
          for examples in await asyncio.gather(*self._cut_all(asked)):
            waiting += map(self._batcher.put, examples)
          found = await asyncio.gather(*(w.future for w in waiting))
      except TimeoutError:
        words = f'within {self.limits.seconds:g} s'
        if any(w.is_begun for w in waiting):
          raise Refused(504, f'The prediction was not done {words}.') from None
        sentence = f'The prediction was not begun {words}: try again later.'
        raise Refused(503, sentence, retry_after='1') from None
    return _document(self._predictor.landmark_set, asked, found)

  def _cut_all(self, asked: Asked) -> Iterator[asyncio.Future]:
    """The examples of the items of each photo, made in threads."""
    loop = asyncio.get_running_loop()
    for i, name in enumerate(asked.names):
      boxes = [box for photo, box in asked.items if photo == i]
      yield loop.run_in_executor(
        self._cutters, self._cut, _shown(name), asked.contents[i], boxes
      )

  def _cut(
    self, name: str, content: bytes, boxes: list[list[float] | None]
  ) -> list[dict[str, Any]]:
    """The examples of the items of one photo."""
    image = images.decode(content, name, self.limits.pixels)
    return [self._predictor.prepare(image, box, name) for box in boxes]


def _shown(name: str) -> str:
  """A photo's name as messages show it."""
  return printable(file_names.encoded(name))


def _document(
  landmark_set: LandmarkSet, asked: Asked, found: list[Landmarks | None]
) -> dict[str, Any]:
  """What `--mode=predict` writes to predictions.json for the same photos."""
  document, annotations = coco_output.Document(landmark_set), []
  for (photo, box), landmarks in zip(asked.items, found, strict=True):
    name = asked.names[photo]
    if landmarks is None:
      raise InputError(
        f'{_shown(name)}: the networks give no numbers for this item (NaN or '
        'infinite)'
      )
    if box is not None:  # the networks' copy of it has fewer digits
      landmarks = dataclasses.replace(landmarks, box=np.array(box, np.float64))
    annotation = document.add(name, landmarks.image_size, landmarks)
    annotations.append(annotation)
  return {'annotations': annotations, **document.rest()}


def _error(error: Exception) -> dict[str, str]:
  sentence = str(error)
  return {'error': sentence if sentence.endswith('.') else f'{sentence}.'}


class _Counted:
  """Counts requests, and closes connections while the service drains."""

  def __init__(self, app: ASGIApp, service: Service):
    self._app, self._service = app, service

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope['type'] != 'http':
      await self._app(scope, receive, send)
      return
    service = self._service
    service.num_begun += 1

    async def counted(message: Message) -> None:
      if message['type'] == 'http.response.start' and service.is_draining:
        # Else a client could send the next request at the moment of the end.
        headers = [*message['headers'], (b'connection', b'close')]
        message = {**message, 'headers': headers}
      await send(message)
      if message['type'] == 'http.response.body':
        service.num_answered += not message.get('more_body')

    await self._app(scope, receive, counted)


# What FastAPI cannot read off the function, which takes the form as it comes.
_FORM = {
  'requestBody': {
    'required': True,
    'content': {
      requests.FORM: {
        'schema': {
          'type': 'object',
          'required': ['images'],
          'properties': {
            'images': {
              'type': 'array',
              'items': {'type': 'string', 'format': 'binary'},
              'description': 'A file for each photo, of different names.',
            },
            'boxes': {
              'type': 'string',
              'description': (
                'JSON: a list with an entry for each photo: null (the item '
                'fills its photo), a box [x1, y1, x2, y2] in pixels of the '
                'photo, or a list of boxes, one for each item on it.'
              ),
              'example': '[[62, 62, 165, 300]]',
            },
          },
        }
      }
    },
  }
}
_REFUSALS = {
  400: 'The form cannot be read.',
  408: 'The request is sent too slowly.',
  413: 'The request is too large, or has too many photos.',
  415: 'The request is no form.',
  422: 'A photo or box cannot be used.',
  429: 'There are too many items under way.',
  503: 'The prediction was not begun in time.',
  504: 'The prediction was not done in time.',
}


def make_app(service: Service) -> FastAPI:
  """The application of a service.

  Args:
    service: The service, which runs as long as the application does.
  """

  @contextlib.asynccontextmanager
  async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with service.running():
      yield

  app = FastAPI(
    title='fld_jax', description='Fashion landmarks', lifespan=lifespan
  )
  app.add_middleware(_Counted, service=service)

  @app.post(
    '/predict',
    summary='Finds the landmarks of the items on photos.',
    description=(
      'Returns the object that --mode=predict writes to predictions.json: a '
      'COCO file with `annotations`, `categories` and `images`.'
    ),
    responses={
      status: {
        'description': words,
        'content': {'application/json': {'example': {'error': words}}},
      }
      for status, words in _REFUSALS.items()
    },
    openapi_extra=_FORM,
  )
  async def predict(request: Request) -> Response:
    return await service.predict(request)

  @app.get('/healthz', summary='Whether the process lives.')
  async def healthz() -> dict[str, str]:
    return {'status': 'ok'}

  @app.get('/readyz', summary='Whether requests are taken.')
  async def readyz() -> Response:
    draining = service.is_draining
    content = {'status': 'draining' if draining else 'ready'}
    return JSONResponse(content, 503 if draining else 200)

  @app.get('/metrics', summary='Figures for Prometheus.')
  async def metrics() -> Response:
    return Response(
      prometheus_client.generate_latest(service.metrics.registry),
      media_type=prometheus_client.CONTENT_TYPE_LATEST,
    )

  @app.exception_handler(HTTPException)
  async def refused(request: Request, error: HTTPException) -> Response:
    about = f'{request.method} {printable(request.url.path)}'
    content = {'error': f'{about}: {error.detail}.'}
    return JSONResponse(content, error.status_code, error.headers)

  @app.exception_handler(Exception)
  async def failed(request: Request, error: Exception) -> Response:
    return JSONResponse({'error': 'The service failed; its log says why.'}, 500)

  return app
