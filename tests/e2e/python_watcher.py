"""A watcher with the Python library `websockets`: writes each text message on a line of its own until the daemon
closes, then a line `closed CODE`."""

import asyncio
import sys

import websockets


async def watch(url: str) -> None:
    async with websockets.connect(url, max_size=None) as socket:
        for message in sys.argv[2:]:
            await socket.send(message)
        try:
            async for message in socket:
                sys.stdout.write(message + "\n")
                sys.stdout.flush()
        except websockets.exceptions.ConnectionClosedError:
            pass
        print("closed", socket.close_code, flush=True)


asyncio.run(watch(sys.argv[1]))
