"""The script that leads a port of a container's own loopback to a Unix socket outside.

`python3 loopback.py SOCKET PORT COMMAND…` listens on 127.0.0.1:PORT, joins each connection to the socket,
runs the command, and ends with its status. This way a harness reaches its gateway, and nothing else.

It runs on whatever Python an image has (3.8 or later), so it imports nothing of slurmeval.
"""

import asyncio
import signal
import sys

CHUNK_BYTES = 1 << 16


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            data = await reader.read(CHUNK_BYTES)
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def _run(socket: str, port: int, command: "list[str]") -> int:
    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            outside_reader, outside_writer = await asyncio.open_unix_connection(socket)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pour(reader, outside_writer), _pour(outside_reader, writer))
        for end in (writer, outside_writer):
            end.close()

    server = await asyncio.start_server(join, "127.0.0.1", port, backlog=1024)
    signals: asyncio.Queue[int] = asyncio.Queue()  # they may come before the command runs
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    process = await asyncio.create_subprocess_exec(*command)

    async def hand_on_signals() -> None:
        while True:
            process.send_signal(await signals.get())

    handing_on = asyncio.ensure_future(hand_on_signals())
    try:
        return await process.wait()
    finally:
        handing_on.cancel()
        server.close()


if __name__ == "__main__":
    status = asyncio.run(_run(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
    sys.exit(status if status >= 0 else 128 - status)
