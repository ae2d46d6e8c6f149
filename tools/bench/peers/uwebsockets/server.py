"""The peer uWebSockets, as packaged by socketify: server.py PORT COMPRESSION. Its native functions are called directly: a message
passes through Python once, when it is published; the fan-out is the library's own."""

import sys

from socketify import App
from socketify.native import ffi, lib

PLAIN = 0
TEXT = 1
# All sizes of its dedicated compressors, 3 to 256 KiB, make messages of the same length here.
COMPRESSIONS = {"off": lib.DISABLED, "shared": lib.SHARED_COMPRESSOR, "dedicated": lib.DEDICATED_COMPRESSOR_4KB}
COMPRESSION = COMPRESSIONS[sys.argv[2]]

app = App()
EXTENSIONS = b"sec-websocket-extensions"

# Topics as the library's sockets refer to them, by name; kept for good.
handles = {}
# Messages read in this turn of the loop. While a publisher's frames are being handled, the library has corked that
# publisher and can cork no watcher, which would then get a `send` for each message and not for each 32.
waiting = []


@ffi.callback("void(uws_res_t*, uws_req_t*, uws_socket_context_t*, void*)")
def upgrade(response, request, context, _):
    key, key_bytes = value_of(lib.uws_req_get_header, request, b"sec-websocket-key", len(b"sec-websocket-key"))
    offer, offer_bytes = value_of(lib.uws_req_get_header, request, EXTENSIONS, len(EXTENSIONS))
    name, name_bytes = value_of(lib.uws_req_get_parameter, request, 0)
    topic = ffi.unpack(name, name_bytes)
    handle = handles.get(topic)
    if handle is None:
        handle = handles[topic] = ffi.new_handle(topic)
    lib.uws_res_upgrade(PLAIN, response, handle, key, key_bytes, b"", 0, offer, offer_bytes, context)


def value_of(getter, request, *which):
    value = ffi.new("const char**")
    length = getter(request, *which, value)
    return value[0], length


def topic_of(connection):
    return ffi.from_handle(lib.uws_ws_get_user_data(PLAIN, connection))


@ffi.callback("void(uws_websocket_t*, void*)")
def watch(connection, _):
    topic = topic_of(connection)
    lib.uws_ws_subscribe(PLAIN, connection, topic, len(topic))


@ffi.callback("void(uws_websocket_t*, const char*, size_t, uws_opcode_t, void*)")
def wait(connection, message, length, opcode, _):
    waiting.append((topic_of(connection), ffi.unpack(message, length)))


@ffi.callback("void(void*)")
def publish_waiting(_):
    for topic, message in waiting:
        lib.uws_publish(PLAIN, app.app, topic, len(topic), message, len(message), TEXT, COMPRESSION != lib.DISABLED)
    waiting.clear()


@ffi.callback("void(uws_websocket_t*, const char*, size_t, uws_opcode_t, void*)")
def ignore(connection, message, length, opcode, _):
    pass


@ffi.callback("void(uws_websocket_t*, int, const char*, size_t, void*)")
def close(connection, code, message, length, _):
    pass


@ffi.callback("void(uws_websocket_t*, void*)")
def opened(connection, _):
    pass


def route(path, open_handler, message_handler):
    behavior = ffi.new("uws_socket_behavior_t*")
    behavior.compression = COMPRESSION
    behavior.maxPayloadLength = 16 << 20
    behavior.idleTimeout = 0
    behavior.maxBackpressure = 1 << 30
    behavior.closeOnBackpressureLimit = True
    behavior.upgrade = upgrade
    behavior.open = open_handler
    behavior.message = message_handler
    behavior.close = close
    lib.uws_ws(PLAIN, app.app, path, behavior[0], ffi.NULL)


route(b"/w/:topic", watch, ignore)
route(b"/p/:topic", opened, wait)
app.listen({"host": "127.0.0.1", "port": int(sys.argv[1])}, lambda config: None)
lib.socketify_on_prepare(app.loop.uv_loop._loop, publish_waiting, ffi.NULL)
# The library's loop alone, without the turns that socketify's own would give to asyncio.
app.loop.uv_loop.run()
