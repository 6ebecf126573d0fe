"""Runs the emulator of AWS with its MQTT broker on 127.0.0.1: by itself that listens on all addresses of the machine."""

import asyncio
import runpy
from typing import Any

_create_server = asyncio.BaseEventLoop.create_server


async def _on_loopback(self: asyncio.BaseEventLoop, protocol: Any, host: Any = None, port: Any = None, **more: Any) -> Any:
    return await _create_server(self, protocol, "127.0.0.1" if host == "0.0.0.0" else host, port, **more)


asyncio.BaseEventLoop.create_server = _on_loopback  # type: ignore[method-assign, assignment]
runpy.run_module("ministack", run_name="__main__", alter_sys=True)
