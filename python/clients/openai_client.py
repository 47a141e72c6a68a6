"""The `openai` SDK: pictures, edits, streams, models, and its classes of errors."""

import threading
import urllib.request

import openai
from openai import OpenAI

from pictures import check_base64, check_bytes, ensure, openai_mask, png_file, sample

PROMPT = "a red balloon over the sea"
SMALL = {"size": "64x64", "extra_body": {"steps": 2, "seed": 5}}


def client(server, **options):
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", **options)


def models_are_listed(server):
    listed = [model.id for model in client(server).models.list()]
    ensure(listed, "there is no model")
    ensure(client(server).models.retrieve(listed[0]).id == listed[0], "the first model is not itself")


def a_picture_comes_as_base64_with_usage_and_seed(server):
    answer = client(server).images.generate(model="gpt-image-1", prompt=PROMPT, **SMALL)
    check_base64(answer.data[0].b64_json, (64, 64), prompt=PROMPT)
    ensure(answer.usage.output_tokens == 16, f"{answer.usage}")
    ensure(answer.usage.total_tokens == answer.usage.input_tokens + 16, f"{answer.usage}")
    ensure((answer.size, answer.output_format, answer.background) == ("64x64", "png", "opaque"), f"{answer}")
    ensure(answer.data[0].seed == 5, "the seed is not said")


def two_pictures_have_two_seeds(server):
    answer = client(server).images.generate(model="dall-e-3", prompt=PROMPT, n=2, **SMALL)
    first, second = (check_base64(datum.b64_json, (64, 64)) for datum in answer.data)
    ensure(first.tobytes() != second.tobytes(), "both pictures are the same")
    ensure([datum.seed for datum in answer.data] == [5, 6], "the seeds do not count up")


def an_address_leads_to_the_file(server):
    answer = client(server).images.generate(prompt=PROMPT, response_format="url", **SMALL)
    url = answer.data[0].url
    ensure(url.startswith(server.url), f"{url} is elsewhere")
    with urllib.request.urlopen(url) as response:
        check_bytes(response.read(), (64, 64), prompt=PROMPT)


def other_formats_are_written(server):
    for kind in ["jpeg", "webp"]:
        answer = client(server).images.generate(prompt=PROMPT, output_format=kind, output_compression=80, **SMALL)
        check_base64(answer.data[0].b64_json, (64, 64), kind=kind.upper(), prompt=PROMPT)


def what_has_no_effect_is_named(server):
    raw = client(server).images.with_raw_response.generate(prompt=PROMPT, moderation="low", style="vivid", **SMALL)
    ignored = raw.headers["x-zimage-ignored"]
    ensure("moderation" in ignored and "style" in ignored, ignored)


def an_edit_takes_a_picture_or_several_and_a_mask(server):
    images = client(server).images
    one = images.edit(image=png_file(sample()), prompt=PROMPT, **SMALL)
    check_base64(one.data[0].b64_json, (64, 64), prompt=PROMPT)
    several = images.edit(image=[png_file(sample()), png_file(sample(32))], prompt=PROMPT, n=2, **SMALL)
    ensure(len(several.data) == 2, "two pictures were asked for")
    masked = images.edit(image=png_file(sample()), mask=png_file(openai_mask()), prompt=PROMPT, **SMALL)
    kept = check_base64(masked.data[0].b64_json, (64, 64)).convert("RGB").getpixel((56, 32))
    ensure(kept[2] > kept[0], f"the opaque half of the mask was painted: {kept}")


def a_stream_has_partial_pictures_and_then_the_whole_one(server):
    options = {"prompt": PROMPT, "size": "128x128", "stream": True, "partial_images": 2}
    options["extra_body"] = {"steps": 6, "seed": 5}
    check_stream("image_generation", client(server).images.generate(**options))
    check_stream("image_edit", client(server).images.edit(image=png_file(sample()), **options))


def check_stream(family, stream):
    events = list(stream)
    kinds = [event.type for event in events]
    ensure(kinds == [f"{family}.partial_image"] * 2 + [f"{family}.completed"], f"{kinds}")
    ensure([event.partial_image_index for event in events[:2]] == [0, 1], "partial pictures are not counted")
    check_base64(events[0].b64_json, (16, 16), kind="JPEG")
    check_base64(events[-1].b64_json, (128, 128), prompt=PROMPT)
    ensure(events[-1].usage.output_tokens == 64, f"{events[-1].usage}")


def wrong_requests_raise_the_errors_of_the_sdk(server):
    images = client(server).images
    cases = [
        (openai.BadRequestError, "size", "unsupported_value", {"prompt": "p", "size": "1000x1000"}),
        (openai.BadRequestError, "n", "invalid_value", {"prompt": "p", "n": 1000}),
        (openai.BadRequestError, "prompt", "missing_required_parameter", {"prompt": ""}),
        (openai.BadRequestError, "background", "unsupported_value", {"prompt": "p", "background": "transparent"}),
        (openai.NotFoundError, "model", "model_not_found", {"prompt": "p", "model": "imagen"}),
    ]
    for kind, param, code, options in cases:
        try:
            images.generate(**options)
        except kind as error:
            ensure((error.param, error.code) == (param, code), f"{options}: {error.param}, {error.code}")
            ensure(error.type == "invalid_request_error", f"{error.type}")
        else:
            ensure(False, f"{options} was served")
    try:
        images.create_variation(image=png_file(sample()))
    except openai.NotFoundError as error:
        ensure("edits" in error.message, error.message)
    else:
        ensure(False, "a variation was made")


def a_full_queue_is_a_rate_limit(server):
    """The server of this check lets one job wait."""
    slow = {"prompt": PROMPT, "size": "256x256", "extra_body": {"steps": 50}}
    busy = [client(server, max_retries=0, timeout=30) for _ in range(4)]
    refused = []

    def ask(one):
        try:
            with one.images.generate(stream=True, **slow) as stream:
                waiting.wait(20)
                stream.close()
        except openai.RateLimitError as error:
            refused.append(error)
            waiting.set()

    waiting = threading.Event()
    threads = [threading.Thread(target=ask, args=[one]) for one in busy]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    ensure(refused, "four jobs fit into a queue of one")
    ensure(refused[0].code == "queue_full", f"{refused[0].code}")
    ensure(1 <= int(refused[0].response.headers["retry-after"]) <= 120, "it is not said when to come back")


CHECKS = [
    models_are_listed,
    a_picture_comes_as_base64_with_usage_and_seed,
    two_pictures_have_two_seeds,
    an_address_leads_to_the_file,
    other_formats_are_written,
    what_has_no_effect_is_named,
    an_edit_takes_a_picture_or_several_and_a_mask,
    a_stream_has_partial_pictures_and_then_the_whole_one,
    wrong_requests_raise_the_errors_of_the_sdk,
]
