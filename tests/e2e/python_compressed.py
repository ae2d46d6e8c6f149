"""A watcher that compresses, with one of the Python libraries `websockets` and `aiohttp`: writes a line `agreed EXTENSIONS`,
then each text message on a line of its own. Sends each line of its standard input as a message, compressed, and closes when
that ends. Arguments: the library, or `window`, which is websockets with the smallest window; the URL."""

import asyncio
import sys

import aiohttp
import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory


def tell(message: str) -> None:
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


async def send_all(send, close) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        await send(line.rstrip("\n"))
    await close()


async def with_websockets(url: str, **options) -> None:
    async with websockets.connect(url, max_size=None, **options) as socket:
        tell(f"agreed {socket.response.headers['Sec-WebSocket-Extensions']}")
        sending = asyncio.create_task(send_all(socket.send, socket.close))
        async for message in socket:
            tell(message)
        await sending


async def with_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15, max_msg_size=0) as socket:
        tell(f"agreed {socket._response.headers['Sec-WebSocket-Extensions']}")
        sending = asyncio.create_task(send_all(socket.send_str, socket.close))
        async for message in socket:
            assert message.type == aiohttp.WSMsgType.TEXT, message
            tell(message.data)
        await sending


async def watch(library: str, url: str) -> None:
    match library:
        case "websockets":
            await with_websockets(url)
        case "window":
            smallest = ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)
            await with_websockets(url, compression=None, extensions=[smallest])
        case "aiohttp":
            await with_aiohttp(url)


asyncio.run(watch(*sys.argv[1:]))
