"""Tells open browser tabs of changes as they happen."""
import asyncio
import json

SUBSCRIBERS: set = set()
PING_SECONDS = 20


async def serve(socket) -> None:
    SUBSCRIBERS.add(socket)
    try:
        async for _ in socket:
            pass
    finally:
        SUBSCRIBERS.discard(socket)


async def broadcast(event: dict) -> None:
    text = json.dumps(event)
    await asyncio.gather(*(s.send(text) for s in SUBSCRIBERS), return_exceptions=True)


async def keep_alive() -> None:
    while True:
        await asyncio.sleep(PING_SECONDS)
        await asyncio.gather(*(s.ping() for s in SUBSCRIBERS), return_exceptions=True)
