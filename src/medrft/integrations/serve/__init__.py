"""`medrft serve`: one reward, and one calibration state, for many workers over HTTP.

reading    a request's body -> rows, checked; what is refused, and with which status
worker     the one thread that scores: what waits is scored together and combined request by request
remember   answers by request id, so that one that is asked for again teaches nothing again; on disk where needed
app        the routes, the token, the limits
server     socket, uvicorn, signals
"""

from medrft.errors import need_packages

need_packages("starlette", "uvicorn", extra="serve")
