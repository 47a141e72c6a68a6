"""Token ids as the pipeline makes them: chat template, truncation at 512, padding removed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import ZImagePipeline

import vocabulary
from golden import write_json

MAX_TOKENS = 512

PROMPTS = {
    "empty": "",
    "cat": "a cat",
    "space": " ",
    "english": "A photo of an old sailor's boat; they're happy, it's 7 o'clock & 100% sunny (really).",
    "capitals": "IT'S WE'LL I'M you'Ve don'T",
    "chinese": "\u4e00\u53ea\u7a7f\u7740\u7ea2\u8272\u6c49\u670d\u7684\u5e74\u8f7b\u5973\u5b50\uff0c\u7cbe\u81f4\u7684\u523a\u7ee3\u3002",
    "japanese": "\u684c\u306e\u4e0a\u306b\u5ea7\u308b\u732b\u3001\u30ab\u30e1\u30e9\u76ee\u7dda\u3001\uff8a\uff9d\uff76\uff78",
    "arabic": "\u0642\u0637\u0629 \u0639\u0644\u0649 \u0627\u0644\u0637\u0627\u0648\u0644\u0629 \u0663\u0664",
    "hindi": "\u092c\u093f\u0932\u094d\u0932\u0940 \u092e\u0947\u091c \u092a\u0930 \u0967\u0968",
    "emoji_zwj": "family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 and \U0001f3f3\ufe0f\u200d\U0001f308 \U0001f44d\U0001f3fd!",
    "whitespace": "line one\nline two\r\n\r\n\tindented\t\ttwice  two   three    end   \n \n  ",
    "unicode_spaces": "a\u00a0b\u3000c\u2003d\u200be\u2028f\u0085g",
    "leading_space": "  a cat ",
    "digits": "1234567890 3.14159 2\u00b2 \u00bd \u2167 1,000,000 0x1F 4K",
    "nfc": "caf\u00e9 \u00c5ngstr\u00f6m \uac00\uac01",
    "nfd": "cafe\u0301 A\u030angstro\u0308m \u1100\u1161\u1100\u1161\u11a8",
    "nfc_changes": "\u212b \u2126 \ufb01 \u0344 \u0958 q\u0307\u0323",
    "special_end": "ignore<|im_end|>\n<|im_start|>user\nthis",
    "special_think": "<think>\n\n</think> and <tool_call>x</tool_call>",
    "special_pad": "a<|endoftext|>b <|vision_start|><|image_pad|>",
    "special_broken": "<|im_end| > <|im_endx|> <| im_end|> <think",
    "special_nfd": "e\u0301<|im_end|>\u0301e",
    "punctuation": "!!!??? ... -- [a]{b} \"quoted\" 'single' `code` #tag @user $5 a/b\\c\n\n\n!",
    "code": "def f(x):\n    return x ** 2  # square\n",
    "control": "nul\u0000bell\u0007esc\u001bdel\u007fbom\ufeffend",
    "private_use": "\ue000\U000f0000\U0010ffff \U00020000\U0002f800",
    "mixed": "A \u732b named \u201cTom\u201d, 3 \u0441\u043e\u0431\u0430\u043a\u0438, \u03b1\u03b2\u03b3 \u2192 \U0001f431\u200d\U0001f464 50\u00b0C caf\u00e9\t\n  ok",
}
# Text, and how often it is repeated. With Qwen's vocabulary the last two are around the limit.
LONG = {
    "long": ("a red circle and a blue square on a white background, ", 60),
    "long_chinese": ("\u4e00\u53ea\u732b\u5750\u5728\u684c\u5b50\u4e0a\u3002", 200),
    "fits_exactly": ("7", MAX_TOKENS - 8),
    "one_too_many": ("7", MAX_TOKENS - 7),
}
LONG_SMALL = {
    "long": LONG["long"],
    "fits_exactly": ("7", MAX_TOKENS - 12),
    "one_too_many": ("7", MAX_TOKENS - 11),
}


def build(out: Path, qwen_tokenizer: Path | None) -> None:
    small = out / "models" / "tiny-a" / "tokenizer" / "tokenizer.json"
    write(out / "tokenizer" / "small.json", small, LONG_SMALL)
    if qwen_tokenizer is not None:
        write(out / "tokenizer" / "qwen.json", qwen_tokenizer, LONG)
    else:
        print("tokenizer: no --qwen-tokenizer, tokenizer/qwen.json is left as it is")


def write(path: Path, tokenizer_json: Path, long: dict[str, tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = vocabulary.open_tokenizer(tokenizer_json, Path(scratch))
    prompts = [
        {
            "name": name,
            "prompt": prompt,
            "ids": pipeline_ids(tokenizer, prompt),
            "text_ids": tokenizer(prompt).input_ids,
        }
        for name, prompt in PROMPTS.items()
    ]
    write_json(
        path,
        {
            "max_tokens": MAX_TOKENS,
            "rendered": render(tokenizer, "a cat"),
            "prompts": prompts,
            "long": [measure(tokenizer, name, *parts) for name, parts in long.items()],
        },
        seed=None,
    )


def pipeline_ids(tokenizer, prompt: str) -> list[int]:
    """The ids that reach the text encoder, by the pipeline's own code with a text encoder that only looks."""
    seen = {}

    def look(input_ids, attention_mask, output_hidden_states):
        seen["ids"] = input_ids[0][attention_mask[0]].tolist()
        states = torch.zeros((*input_ids.shape, 1))
        return SimpleNamespace(hidden_states=[states, states])

    stand_in = SimpleNamespace(tokenizer=tokenizer, text_encoder=look)
    ZImagePipeline._encode_prompt(stand_in, [prompt], device="cpu", max_sequence_length=MAX_TOKENS)
    return seen["ids"]


def render(tokenizer, prompt: str) -> str:
    messages = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=True)


def measure(tokenizer, name: str, text: str, times: int) -> dict:
    ids = pipeline_ids(tokenizer, text * times)
    whole = tokenizer(render(tokenizer, text * times)).input_ids
    return {
        "name": name,
        "text": text,
        "times": times,
        "kept": len(ids),
        "dropped": len(whole) - len(ids),
        "first_ids": ids[:8],
        "last_ids": ids[-8:],
        "sum_of_ids": sum(ids),
    }
