"""`--mode=serve`: the service on a port, until it is told to end.

At SIGTERM it goes on with all that it has taken, and takes what still comes for
a while, in which /readyz says 503 and every answer closes its connection: so
that whatever spreads the requests turns to others. Then it no longer listens,
answers what is open, and ends with status 0.
"""

import asyncio
import contextlib
import pathlib
import signal
import socket
from types import FrameType

from ml_collections import ConfigDict

from fld_jax.errors import InputError

try:
  import uvicorn

  from fld_jax.service.app import Limits, Service, make_app
except ModuleNotFoundError as error:
  if (error.name or '').startswith('fld_jax'):
    raise
  raise InputError(
    f'--mode=serve needs {error.name}, which is not installed: install '
    "fld_jax's extra serve, pip install 'fld_jax[serve]'."
  ) from error

from fld_jax.inference.predictor import Predictor

# How long a connection that was opened at the last moment may take to send its
# request, or a client to close one that it has kept.
LAST_SECONDS = 5.0


def serve(
  config: ConfigDict,
  workdir: pathlib.Path,
  *,
  host: str,
  port: int,
  limits: Limits,
  deadline: float,
  drain_seconds: float,
  runtime: str,
) -> None:
  """Serves predictions until SIGTERM or Ctrl-C.

  Args:
    config: The run's config.
    workdir: The run's folder.
    host: The address to listen at.
    port: The port; 0 for any that is free.
    limits: What is taken.
    deadline: The longest time in seconds that a batch waits for more items.
    drain_seconds: How long requests are still taken after SIGTERM.
    runtime: What computes the networks, see `predictor.load`.

  Raises:
    InputError: The run is not finished, or the port cannot be listened at.
  """
  listening = _listen(host, port)
  try:
    predictor = Predictor.load(workdir, config, runtime=runtime, warm=True)
    service = Service(predictor, limits, deadline)
    options = uvicorn.Config(
      make_app(service), log_level='warning', access_log=False, lifespan='on'
    )
    server = _Server(options, service, drain_seconds)
    server.run(sockets=[listening])
  finally:
    listening.close()
  print(
    f'Ended: {service.num_answered} of {service.num_begun} requests answered',
    flush=True,
  )


def _listen(host: str, port: int) -> socket.socket:
  """A socket bound to an address, which is taken before anything is loaded."""
  try:
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
  except OSError as error:
    raise InputError(
      f'--host={host} --port={port}: cannot be listened at ({error.strerror})'
    ) from error
  return listening


class _Server(uvicorn.Server):
  """uvicorn's server, with an end that loses no request."""

  def __init__(
    self, config: uvicorn.Config, service: Service, drain_seconds: float
  ):
    super().__init__(config)
    self._service, self._drain_seconds = service, drain_seconds
    self._draining = None

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """Begins the end; a second signal, or Ctrl-C, shortens it.

    Args:
      sig: The number of the signal.
      frame: Where the program was.
    """
    if sig == signal.SIGTERM and not self._service.is_draining:
      self._service.is_draining = True
      self._loop.call_soon_threadsafe(self._begin_to_drain)
    else:
      self.should_exit = True

  async def startup(self, sockets: list[socket.socket]) -> None:
    """Begins to listen, and says where.

    Args:
      sockets: The bound socket.
    """
    self._loop, self._listening = asyncio.get_running_loop(), sockets[0]
    await super().startup(sockets)
    if self.started:
      address, port = sockets[0].getsockname()[:2]
      print(f'Serving at http://{address}:{port}, see /docs', flush=True)

  def _begin_to_drain(self) -> None:
    self._draining = asyncio.create_task(self._drain())

  async def _drain(self) -> None:
    await asyncio.sleep(self._drain_seconds)
    # Whoever the system has let in waits in its queue, which goes with the
    # socket: they are taken out of it first.
    waiting = []
    with contextlib.suppress(BlockingIOError):
      while True:
        waiting.append(self._listening.accept()[0])
    for server in self.servers:
      server.close()  # no new connections; the open ones go on
    for connection in waiting:
      await self._loop.connect_accepted_socket(
        lambda: self.config.http_protocol_class(
          config=self.config,
          server_state=self.server_state,
          app_state=self.lifespan.state,
        ),
        connection,
      )
    end = self._loop.time() + LAST_SECONDS
    while self.server_state.connections and self._loop.time() < end:
      await asyncio.sleep(0.05)
    self.should_exit = True
