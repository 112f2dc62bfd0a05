"""A LitServe server that answers every request with the same bytes: 1024x1024 pixels of 3 bytes."""

import argparse

import litserve
from fastapi import Response

PIXELS = bytes(range(256)) * (1024 * 1024 * 3 // 256)


class Pixels(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request["prompt"]

    def predict(self, prompt):
        return PIXELS

    def encode_response(self, output):
        return Response(content=output, media_type="application/octet-stream")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--port", type=int, required=True)
    server = litserve.LitServer(Pixels(api_path="/inference"), accelerator="cpu", workers_per_device=1)
    server.run(port=arguments.parse_args().port, host="127.0.0.1", log_level="warning", generate_client_file=False)
