"""What lies between a gateway and a store: it keeps answers back, and cuts connections."""

import socket
import threading


class Relay:
    """Passes bytes both ways, whatever they say."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.answers_pass = threading.Event()
        self.answers_pass.set()
        # An answer has come that is kept back: what was asked is done.
        self.kept_back = threading.Event()
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def keep_answers_back(self) -> None:
        self.kept_back.clear()
        self.answers_pass.clear()

    def cut(self) -> None:
        """Ends all connections, with the answers that are kept back; new ones are as usual."""
        while self.open:
            end(self.open.pop())
        self.answers_pass.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                end(client)
                continue
            self.open += [client, server]
            for source, to, is_answer in [(client, server, False), (server, client, True)]:
                threading.Thread(target=self._pass_on, args=(source, to, is_answer), daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket, is_answer: bool) -> None:
        try:
            while some := source.recv(1 << 16):
                if is_answer and not self.answers_pass.is_set():
                    self.kept_back.set()
                    self.answers_pass.wait()
                to.sendall(some)
        except OSError:
            pass
        end(source)
        end(to)

    def close(self) -> None:
        self.listener.close()
        self.cut()


def end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()
