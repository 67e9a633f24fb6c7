"""Serve: one warm process that draws for others over HTTP: `sd serve`.

A new API is one new file in `sdcli/serve/`, whose name is added to `APIS` in `app.py`. It has one function:

    def routes(service: Service) -> list[BaseRoute]:
        return [Route("/hello", service.answers(form, hello), methods=["POST"])]

    async def hello(service: Service, http: Request) -> Response: ...

`form` turns a `Problem` (status, message, kind, param) into the response that this API's clients understand; whatever
the endpoint raises (SdError, QueueFull, HTTPException) becomes one. What an endpoint does, in order:

1. A body becomes pictures to draw. `asks = await service.asks(body, suffix=".png", …)`: `body` is a dict with the keys
   of a job (a field of a Request or another tool's word for it, `count`, `name`, `size`), and pictures as base64, as a
   `data:` URL or as `InlineImage`; what `--control` and its like take is an object that holds its picture (see
   `attached`). Models, LoRAs and other files are named as they are listed. Each `Ask` is checked by the headers of its
   model and against the budget, and has a seed. What is not understood is a UsageError by name.
2. `jobs = service.queue.submit(asks)` raises `QueueFull`, which is answered 429. Equal asks share one drawing. With
   `keep=True`, a job can be found by `service.queue.find(id)` for a while after it has ended.
3. Watch: `async for drawing in job.follow():` gives the drawing at once and after each change, until it has ended:
   `drawing.state` (queued, running, done, failed, cancelled), `drawing.step` of `drawing.steps`, `drawing.previews`
   (PNGs, of as many steps as were asked for by `job.want_previews(count)`).
4. `await finished(http, jobs)` waits for all of them, and cancels them if the client leaves first. A drawing that is
   done has `drawing.result`: `.data` (the PNG, byte for byte what the command line saves), `.request` (as the picture
   records it: nothing in it is open, and no folder is named), `.facts`, `.seconds`. One that failed has
   `drawing.failure`.
5. `service.queue.cancel(job)` ends one: a running picture stops at its next step, unless someone else waits for it.

All of `service.queue` is used from the event loop. Blocking work goes through `anyio.to_thread.run_sync`.
"""
