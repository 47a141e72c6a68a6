"""Clients of the Stable Diffusion web UI: `webuiapi`, and Open WebUI's two requests as it sends them."""

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from webuiapi import WebUIApi

from pictures import check_base64, check_image, ensure, sample, white_mask

PROMPT = "a yellow house on a green hill"
SMALL = {"prompt": PROMPT, "width": 64, "height": 64, "steps": 2, "seed": 7}


def client(server):
    address = urllib.parse.urlsplit(server.url)
    return WebUIApi(host=address.hostname, port=address.port)


def text_becomes_a_picture_and_odd_settings_are_noted(server):
    result = client(server).txt2img(**SMALL)
    check_image(result.image, (64, 64))
    ensure(PROMPT in result.image.info["parameters"], "the metadata lacks the prompt")
    ensure(result.info["all_seeds"] == [7] and PROMPT in result.info["infotexts"][0], f"{result.info}")
    notes = result.info["extra_generation_params"]
    ensure("cfg_scale" in notes and "sampler_name" in notes, f"cfg 7 and Euler a pass in silence: {notes}")
    ensure(result.info["cfg_scale"] == 1, "cfg 7 was used")


def sizes_are_rounded_and_counts_multiplied(server):
    result = client(server).txt2img(**{**SMALL, "width": 70, "height": 56}, batch_size=2, n_iter=2)
    ensure(len(result.images) == 4, f"{len(result.images)} pictures")
    check_image(result.image, (64, 64))
    ensure("width" in result.info["extra_generation_params"], "the size changed in silence")


def a_picture_is_changed_with_a_mask_and_without(server):
    api = client(server)
    check_image(api.img2img(images=[sample()], denoising_strength=0.5, **SMALL).image, (64, 64))
    result = api.img2img(images=[sample()], mask_image=white_mask(), mask_blur=0, **SMALL)
    kept = result.image.convert("RGB").getpixel((56, 32))
    ensure(kept[2] > kept[0], f"the black half of the mask was painted: {kept}")


def progress_is_told_and_an_interrupt_keeps_what_is_done(server):
    api, results = client(server), []
    slow = {**SMALL, "width": 256, "height": 256, "steps": 50}
    thread = threading.Thread(target=lambda: results.append(client(server).txt2img(**slow)))
    thread.start()
    seen, deadline = None, time.monotonic() + 20
    while seen is None and time.monotonic() < deadline:
        now = api.get_progress()
        if now["progress"] > 0 and now["current_image"]:
            seen = now
        time.sleep(0.01)
    ensure(seen is not None, "no progress was seen")
    ensure(0 < seen["progress"] < 1 and seen["state"]["sampling_steps"] == 50, f"{seen['state']}")
    check_base64(seen["current_image"], (32, 32), kind="JPEG")
    api.interrupt()
    thread.join(20)
    ensure(not thread.is_alive(), "an interrupted request goes on")
    ensure(results[0].images == [], "an interrupted picture came back whole")
    api.util_wait_for_ready(check_interval=0.1)


def lists_and_options_are_there(server):
    api = client(server)
    ensure(api.util_get_sampler_names() == ["Euler"], f"{api.get_samplers()}")
    for listed in [api.get_sd_models(), api.get_upscalers(), api.get_schedulers()]:
        ensure(listed, "an empty list")
    ensure(isinstance(api.get_loras(), list) and isinstance(api.get_sd_vae(), list), "no list")
    ensure(api.get_scripts() == {"txt2img": [], "img2img": []}, f"{api.get_scripts()}")
    ensure("ram" in api.get_memory() and api.get_cmd_flags(), "no memory, no flags")
    api.refresh_checkpoints()
    model = api.util_get_model_names()[0]
    api.util_set_model(model)
    ensure(api.util_get_current_model() == model, f"{api.get_options()}")


def a_picture_tells_how_it_was_made(server):
    api = client(server)
    ensure(PROMPT in api.png_info(api.txt2img(**SMALL).image).info, "a picture that the client wrote anew tells nothing")
    image = api.custom_post("txt2img", payload=SMALL, baseurl=True).json["images"][0]
    said = api.custom_post("png-info", payload={"image": image}, baseurl=True).json
    ensure(PROMPT in said["info"] and said["parameters"]["Seed"] == "7", f"{said}")


def open_webui_is_served_with_its_empty_authorization(server):
    """What Open WebUI 0.12 sends for a picture, and to choose the model."""
    body = {"prompt": PROMPT, "batch_size": 1, "width": 64, "height": 64, "steps": 2, "negative_prompt": ""}
    answer = open_webui(server, "/sdapi/v1/txt2img", body)
    json.loads(answer["info"])
    check_base64(answer["images"][0], (64, 64), prompt=PROMPT)
    options = open_webui(server, "/sdapi/v1/options")
    models = open_webui(server, "/sdapi/v1/sd-models")
    ensure(models[0]["title"] and models[0]["model_name"], f"{models}")
    options["sd_model_checkpoint"] = models[0]["title"]
    open_webui(server, "/sdapi/v1/options", options)


def open_webui(server, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data=data, headers={"authorization": ""})
    if data is not None:
        request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def wrong_requests_are_refused_in_its_words(server):
    for path, body in [
        ("/sdapi/v1/txt2img", {**SMALL, "batch_size": 1000}),
        ("/sdapi/v1/img2img", {**SMALL, "init_images": ["http://127.0.0.1/a.png"]}),
        ("/sdapi/v1/img2img", {**SMALL, "init_images": []}),
    ]:
        try:
            open_webui(server, path, body)
        except urllib.error.HTTPError as error:
            told = json.load(error)
            ensure(error.code == 422 and told["error"] == "HTTPException" and told["detail"], f"{error.code}: {told}")
        else:
            ensure(False, f"{body} was served")


CHECKS = [
    text_becomes_a_picture_and_odd_settings_are_noted,
    sizes_are_rounded_and_counts_multiplied,
    a_picture_is_changed_with_a_mask_and_without,
    progress_is_told_and_an_interrupt_keeps_what_is_done,
    lists_and_options_are_there,
    a_picture_tells_how_it_was_made,
    open_webui_is_served_with_its_empty_authorization,
    wrong_requests_are_refused_in_its_words,
]
