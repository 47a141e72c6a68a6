"""The `mcp` client, over HTTP and over a pipe."""

import asyncio
import base64

from mcp import Client

from pictures import check_bytes, data_url, ensure, sample

PROMPT = "a blue boat, and a white moon above it"
SMALL = {"prompt": PROMPT, "width": 64, "height": 64, "steps": 3, "seed": 3}
TOOLS = ["cancel_job", "edit_image", "generate_image", "get_job", "list_models"]


async def check_client(client):
    listed = (await client.list_tools()).tools
    ensure(sorted(tool.name for tool in listed) == TOOLS, f"{[tool.name for tool in listed]}")
    ensure(all(tool.output_schema for tool in listed), "a tool does not say what it gives")
    models = (await client.call_tool("list_models", {})).structured_content
    ensure(models["models"][0]["native_size"] > 0, f"{models}")
    made = await generated(client)
    await edited(client, made)
    await refused(client)
    await cancelled(client)


async def generated(client):
    told = []

    async def progress(done, total, message):
        told.append((done, total))

    result = await client.call_tool("generate_image", SMALL, progress_callback=progress)
    ensure(not result.is_error, f"{result.content}")
    kinds = [block.type for block in result.content]
    ensure(kinds == ["image", "resource_link", "text"], f"{kinds}")
    check_bytes(base64.b64decode(result.content[0].data), (64, 64), kind="JPEG")
    picture = result.structured_content["images"][0]
    ensure((picture["seed"], picture["width"], picture["height"]) == (3, 64, 64), f"{picture}")
    ensure(result.content[1].uri == picture["uri"] == f"zimage://images/{picture['id']}", f"{picture}")
    resource = (await client.read_resource(picture["uri"])).contents[0]
    ensure(resource.mime_type == "image/png", f"{resource.mime_type}")
    check_bytes(base64.b64decode(resource.blob), (64, 64), prompt=PROMPT)
    ensure(told and told[-1] == (1.0, 1.0), f"progress: {told}")
    job = await client.call_tool("get_job", {"id": result.structured_content["job"]})
    ensure(job.structured_content["state"] == "done", f"{job.structured_content}")
    return picture


async def edited(client, picture):
    for image in [picture["id"], picture["uri"], data_url(sample())]:
        result = await client.call_tool("edit_image", {**SMALL, "image": image, "strength": 0.7})
        ensure(not result.is_error, f"{result.content}")
        ensure(len(result.structured_content["images"]) == 1, f"{result.structured_content}")


async def refused(client):
    for image in ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/a.png", "0" * 64]:
        result = await client.call_tool("edit_image", {**SMALL, "image": image})
        ensure(result.is_error, f"{image} was taken for a picture")
    result = await client.call_tool("generate_image", {**SMALL, "steps": 1000})
    ensure(result.is_error and "steps" in result.content[0].text, f"{result.content}")


async def cancelled(client):
    """A call that its client gives up is stopped, or the next one would wait for all its steps."""
    slow = {**SMALL, "width": 256, "height": 256, "steps": 50, "n": 10}
    started = asyncio.Event()

    async def progress(done, total, message):
        started.set()

    call = asyncio.create_task(client.call_tool("generate_image", slow, progress_callback=progress))
    await asyncio.wait_for(started.wait(), 30)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    result = await asyncio.wait_for(client.call_tool("generate_image", SMALL), 30)
    ensure(not result.is_error, f"{result.content}")


def run(target):
    async def check():
        async with Client(target) as client:
            await check_client(client)

    asyncio.run(check())
