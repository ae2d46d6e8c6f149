"""The peer websockets: server.py PORT FEED COMPRESSION. Its documented `broadcast`, once per message."""

import asyncio
import collections
import sys

from websockets.asyncio.server import broadcast, serve

BACKLOG_CONNECTIONS = 4096

watchers = collections.defaultdict(set)


class Publisher(asyncio.Protocol):
    """Publishes lines `TOPIC<TAB>PAYLOAD`; asyncio reads in blocks of 256 KiB."""

    def __init__(self):
        self.rest = b""

    def data_received(self, block):
        *lines, self.rest = (self.rest + block).split(b"\n")
        for line in lines:
            topic, _, payload = line.partition(b"\t")
            connections = watchers.get(topic)
            if connections:
                broadcast(connections, payload, text=True)


def topic_of(connection):
    return connection.request.path.removeprefix("/w/").encode()


def watch_from_the_answer_on(connection, request, response):
    """Called before the handshake's answer goes out; `broadcast` leaves out what is not open yet."""
    watchers[topic_of(connection)].add(connection)


async def stay(connection):
    await connection.wait_closed()
    watchers[topic_of(connection)].discard(connection)


async def main(port, feed, compression):
    publishers = await asyncio.get_running_loop().create_unix_server(Publisher, feed)
    options = {"compression": compression, "ping_interval": None, "open_timeout": None, "backlog": BACKLOG_CONNECTIONS}
    server = await serve(stay, "127.0.0.1", port, process_response=watch_from_the_answer_on, **options)
    async with publishers, server:
        await server.serve_forever()


# Its usual compression has a window of 4 KiB a connection.
asyncio.run(main(int(sys.argv[1]), sys.argv[2], None if sys.argv[3] == "off" else sys.argv[3]))
