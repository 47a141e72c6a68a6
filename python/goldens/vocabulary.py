"""A small byte-level BPE tokenizer that is built like Qwen's: same splitting, same special tokens, same template."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

VOCABULARY_SIZE = 400

# In the order of Qwen3's ids 151643 to 151668; the second list is not "special" there either.
SPECIAL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>""".split()
PLAIN = """<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|>
<|file_sep|> <tool_response> </tool_response> <think> </think>""".split()

SENTENCES = [
    "a photo of a cat sitting on a wooden table, soft light from the window",
    "a red circle and a blue square on a white background",
    "the mountain lake at sunrise, mist over the water, highly detailed",
    "portrait of an old sailor with a grey beard, oil painting",
    "user assistant system",
    "blurry, dark, low quality",
    "the quick brown fox jumps over the lazy dog, it's the dog's day and they're happy",
    "\u4e00\u53ea\u732b\u5750\u5728\u684c\u5b50\u4e0a",
    "\u684c\u306e\u4e0a\u306e\u732b",
]

# What Qwen3's template renders for text messages without tools or reasoning.
CHAT_TEMPLATE = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""


def train() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    for token in SPECIAL:
        tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
    for token in PLAIN:
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    return tokenizer


def open_tokenizer(tokenizer_json: Path, folder: Path) -> Qwen2Tokenizer:
    """The transformers tokenizer of a `tokenizer.json`, opened from an ordinary folder that this makes at `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_bytes(tokenizer_json.read_bytes())
    (folder / "tokenizer_config.json").write_text(config_text(Tokenizer.from_file(str(tokenizer_json))))
    return Qwen2Tokenizer.from_pretrained(folder)


def config_text(tokenizer: Tokenizer) -> str:
    """`tokenizer_config.json` as Qwen3 publishes it, for the ids of this tokenizer."""
    import json

    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL,
        }
        for token in SPECIAL + PLAIN
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"
