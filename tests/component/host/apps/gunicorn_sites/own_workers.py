"""Worker classes nobody has heard of: one on select, one on asyncio."""

import asyncio
import selectors
import signal
import socket

from gunicorn.workers.base import Worker

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nok"


class SelectWorker(Worker):
    """One request a connection."""

    def run(self):
        selector = selectors.SelectSelector()
        for listener in self.sockets:
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ)
        while self.alive:
            self.notify()
            for key, _ in selector.select(1.0):
                try:
                    client, _ = key.fileobj.accept()
                except BlockingIOError:
                    continue
                with client:
                    client.recv(65536)
                    client.sendall(ANSWER % b"Connection: close\r\n")


class LoopWorker(Worker):
    """Keeps connections; its app is a WSGI callable in name alone."""

    def init_process(self):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        super().init_process()

    def init_signals(self):
        self.loop.add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)

    def run(self):
        self.loop.run_until_complete(self.serve())

    async def serve(self):
        servers = []
        for one in self.sockets:
            listener = one if isinstance(one, socket.socket) else one.sock
            servers.append(await asyncio.start_server(self.talk, sock=listener))
        while self.alive:
            self.notify()
            await asyncio.sleep(0.5)
        for server in servers:
            server.close()

    async def talk(self, reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(ANSWER % b"")
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()
