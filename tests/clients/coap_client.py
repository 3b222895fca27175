"""Ask a CoAP server what a test wants asked, with aiocoap.

    python coap_client.py coap://127.0.0.1:5683

reads orders, one line of JSON each, and prints one line for each of them.
coap_client.js takes the same orders. What one may hold:

    do        "call" or "many" (`count` at once), "observe" and then "next"
              and "stop"
    method    "GET", ...; POST if there is none
    path      "echo", "a/b?c=d"
    text      the payload; or `size` bytes of one, or `hex`
    options   pairs of a number and its value in hex
    non       true, for a message that is not confirmed

An answer has the `code`, as "2.05", and of the payload `text` (the first
2,000 letters), `size`, and whether it is the `same` as was sent. This client
also gives the `options` that came.
"""

import asyncio
import json
import sys

import aiocoap
from aiocoap.numbers.types import CON, NON

from messages import PATTERN


def payload_of(order):
    if "hex" in order:
        return bytes.fromhex(order["hex"])
    return order.get("text", "").encode() or PATTERN[:order.get("size", 0)]


def request_of(base, order, **more):
    request = aiocoap.Message(
        code=getattr(aiocoap, order.get("method", "POST")),
        uri=f"{base}/{order['path']}", payload=payload_of(order), **more)
    request.mtype = NON if order.get("non") else CON
    for number, value in order.get("options", ()):
        request.opt.add_option(aiocoap.optiontypes.OpaqueOption(
            number, bytes.fromhex(value)))
    return request


def answer_of(response, order):
    got = response.payload
    return {"code": str(response.code)[:4],
            "options": {int(option.number): option.encode().hex()
                        for option in response.opt.option_list()},
            "text": got[:2000].decode("utf-8", "replace"), "size": len(got),
            "same": got == payload_of(order)}


async def call(context, base, order):
    response = await asyncio.wait_for(
        context.request(request_of(base, order)).response, 60)
    return answer_of(response, order)


async def many(context, base, order):
    ends = await asyncio.gather(*(call(context, base, order)
                                  for _ in range(order["count"])))
    return {"codes": sorted({one["code"] for one in ends}),
            "same": sum(one["same"] for one in ends)}


class Watch:
    """One observation, whose results are handed out one by one."""

    def __init__(self, context, base, order):
        self.order, self.results = order, asyncio.Queue()
        self.asked = context.request(request_of(base, order, observe=0))
        self.task = asyncio.create_task(self.listen())

    async def listen(self):
        try:
            async for response in self.asked.observation:
                self.results.put_nowait(answer_of(response, self.order))
        except aiocoap.error.Error as error:
            self.results.put_nowait({"code": "", "text": type(error).__name__})

    async def first(self):
        return answer_of(await self.asked.response, self.order)

    async def next(self):
        return await asyncio.wait_for(self.results.get(), 60)

    def stop(self):
        self.asked.observation.cancel()
        self.task.cancel()
        return {}


async def obey(context, base, order, watches):
    """Do what an order says; `watches` holds the observation."""
    do = order.get("do", "call")
    if do == "observe":
        watches[:] = [Watch(context, base, order)]
        return await watches[0].first()
    if do == "next":
        return await watches[0].next()
    if do == "stop":
        return watches.pop().stop()
    return await {"call": call, "many": many}[do](context, base, order)


async def main(base):
    context, watches = await aiocoap.Context.create_client_context(), []
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = await obey(context, base, json.loads(line), watches)
        print(json.dumps(answer), flush=True)
    await context.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
