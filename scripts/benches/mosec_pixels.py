"""A mosec server that answers every request with the same bytes: 1024x1024 pixels of 3 bytes."""

from mosec import Server, Worker

PIXELS = bytes(range(256)) * (1024 * 1024 * 3 // 256)


class Pixels(Worker):
    resp_mime_type = "application/octet-stream"

    def forward(self, data):
        return PIXELS

    def serialize(self, data):
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Pixels, num=1)
    server.run()
