"""The demo model's configurations, and a lean batched forward over the modules of the real diffusers and transformers classes.

diffusers' own forward takes lists and complex numbers; this one computes the same on whole batches, several times faster on a CPU.
Run it alone to check that both agree:  python python/demo/model.py
"""

import math

import torch
import torch.nn.functional as F
from diffusers import ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

TRANSFORMER = dict(
    all_patch_size=[2], all_f_patch_size=[1], in_channels=16, dim=192, n_layers=6, n_refiner_layers=1, n_heads=3, n_kv_heads=3,
    norm_eps=1e-5, qk_norm=True, cap_feat_dim=128, rope_theta=256.0, t_scale=1000.0, axes_dims=[16, 24, 24],
    axes_lens=[1536, 512, 512],
)
TEXT = dict(
    vocab_size=768, hidden_size=128, intermediate_size=224, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    head_dim=32, max_position_embeddings=2048, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=True, use_cache=False,
)
GRIDS = [(8, 8), (6, 10), (10, 6)]  # rows and columns of tokens for each aspect of dataset.py
TOKENS = 64
HEADS, HEAD_DIM = TRANSFORMER["n_heads"], TRANSFORMER["dim"] // TRANSFORMER["n_heads"]


def make_transformer():
    return ZImageTransformer2DModel(**TRANSFORMER)


def make_text_encoder(special):
    """special: ids of the end and pad tokens."""
    config = Qwen3Config(**TEXT, eos_token_id=special["eos"], pad_token_id=special["pad"], bos_token_id=special["pad"])
    config.architectures = ["Qwen3Model"]
    return Qwen3Model(config)


def rope_tables(cap_block):
    """cos and sin for every aspect: (3, 64, head_dim/2) for the image, (cap_block, head_dim/2) for the caption."""
    def angles(ids):
        out = []
        for axis, d in enumerate(TRANSFORMER["axes_dims"]):
            f = TRANSFORMER["rope_theta"] ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
            out.append(torch.tensor([i[axis] for i in ids], dtype=torch.float64)[:, None] * f)
        return torch.cat(out, -1).float()
    image = []
    for rows, cols in GRIDS:
        ids = [(cap_block + 1, h, w) for h in range(rows) for w in range(cols)]
        image.append(angles(ids + [(0, 0, 0)] * (TOKENS - len(ids))))
    image = torch.stack(image)
    cap = angles([(1 + i, 0, 0) for i in range(cap_block)])
    return image.cos(), image.sin(), cap.cos(), cap.sin()


def rms(x, weight, eps=1e-5):
    return F.rms_norm(x, (x.size(-1),), weight, eps)


def rotate(x, cos, sin):
    """x: (b, n, heads, d) with interleaved pairs; cos, sin: (b or 1, n, 1, d/2)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def weights_of(block):
    """A block's tensors in the order that block_math takes them."""
    att, ff = block.attention, block.feed_forward
    out = [block.attention_norm1, att.to_q, att.to_k, att.to_v, att.norm_q, att.norm_k, att.to_out[0], block.attention_norm2,
           block.ffn_norm1, ff.w1, ff.w3, ff.w2, block.ffn_norm2]
    return [m.weight for m in out]


def block_math(x, w, cos, sin, modulation):
    """One transformer block. Tensors only, so that one compiled version serves all blocks of a shape."""
    norm1, wq, wk, wv, norm_q, norm_k, wo, norm2, ffn_norm1, w1, w3, w2, ffn_norm2 = w
    b, n, d = x.shape
    s1 = g1 = s2 = g2 = 1.0
    if modulation is not None:
        s1, g1, s2, g2 = modulation.float().unsqueeze(1).chunk(4, 2)
        s1, g1, s2, g2 = 1 + s1, g1.tanh(), 1 + s2, g2.tanh()
    h = rms(x, norm1) * s1
    q, k, v = (F.linear(h, m).view(b, n, HEADS, HEAD_DIM) for m in (wq, wk, wv))
    q = rotate(rms(q.float(), norm_q), cos, sin).to(v.dtype)
    k = rotate(rms(k.float(), norm_k), cos, sin).to(v.dtype)
    o = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    x = x + g1 * rms(F.linear(o.transpose(1, 2).reshape(b, n, d), wo).float(), norm2)
    h = rms(x, ffn_norm1) * s2
    return x + g2 * rms(F.linear(F.silu(F.linear(h, w1)) * F.linear(h, w3), w2).float(), ffn_norm2)


def run_block(block, x, rope, temb=None):
    modulation = None if temb is None else block.adaLN_modulation[0](temb)
    # Only training is worth compiling for.
    math_of = BLOCK if torch.is_grad_enabled() else block_math
    return math_of(x, weights_of(block), *rope, modulation)


BLOCK = block_math


def compile_blocks():
    global BLOCK
    BLOCK = torch.compile(block_math, dynamic=False)


def time_embedding(model, t):
    half = 128
    f = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    a = (t * TRANSFORMER["t_scale"])[:, None] * f
    return model.t_embedder.mlp(torch.cat([a.cos(), a.sin()], -1)).float()


def denoise(model, x, image_pad, t, cap, cap_pad, rope):
    """The network's output for patches x (b, 64, 64) at time t (b,): the velocity towards the picture.

    image_pad (b, 64, 1) and cap_pad (b, n, 1) are true where a row is padding; cap: text encoder states (b, n, 128).
    rope: (image cos, image sin, caption cos, caption sin), each with a batch axis and an axis for the heads.
    """
    ic, isn, cc, cs = rope
    temb = time_embedding(model, t)
    h = model.all_x_embedder["2-1"](x).float()
    h = torch.where(image_pad, model.x_pad_token, h)
    for block in model.noise_refiner:
        h = run_block(block, h, (ic, isn), temb)
    norm, linear = model.cap_embedder
    c = linear(rms(cap, norm.weight)).float()
    c = torch.where(cap_pad, model.cap_pad_token, c)
    for block in model.context_refiner:
        c = run_block(block, c, (cc, cs))
    u = torch.cat([h, c], 1)
    both = (torch.cat([ic, cc.expand(ic.size(0), -1, -1, -1)], 1), torch.cat([isn, cs.expand(ic.size(0), -1, -1, -1)], 1))
    for block in model.layers:
        u = run_block(block, u, both, temb)
    final = model.all_final_layer["2-1"]
    scale = 1 + final.adaLN_modulation(temb).float().unsqueeze(1)
    return final.linear(F.layer_norm(u[:, :x.size(1)], (u.size(-1),), eps=1e-6) * scale).float()


def encode_text(model, ids):
    """hidden_states[-2] for right-padded ids: causal attention never lets padding reach a real token, so no mask is needed."""
    h = model.embed_tokens(ids)
    position = torch.arange(ids.size(1))[None]
    rope = model.rotary_emb(h, position)
    for layer in model.layers[:-1]:
        h = layer(h, attention_mask=None, position_ids=position, position_embeddings=rope)
        h = h[0] if isinstance(h, tuple) else h
    return h.float()


def main():
    from dataset import unpatchify
    torch.manual_seed(0)
    model, text = make_transformer().eval(), make_text_encoder({"eos": 762, "pad": 760}).eval()
    print("parameters: transformer", sum(p.numel() for p in model.parameters()), "text", sum(p.numel() for p in text.parameters()))
    for p in [model.x_pad_token, model.cap_pad_token]:
        torch.nn.init.normal_(p)
    with torch.no_grad():
        for grid, n in ((0, 14), (1, 20), (2, 40), (0, 32)):
            rows, cols = GRIDS[grid]
            block = 32 * -(-n // 32)
            ids = torch.randint(0, 700, (1, n))
            want_cap = text(input_ids=ids, output_hidden_states=True).hidden_states[-2]
            cap = encode_text(text, F.pad(ids, (0, block - n)))
            x, t = torch.randn(1, TOKENS, 64), torch.rand(1)
            real = x[:, :rows * cols]
            want = model([unpatchify(real, rows, cols)[0].unsqueeze(1)], t, [want_cap[0]]).sample[0]
            ic, isn, cc, cs = rope_tables(block)
            rope = (ic[[grid]][:, :, None], isn[[grid]][:, :, None], cc[None, :, None], cs[None, :, None])
            pad = (torch.arange(TOKENS) >= rows * cols)[None, :, None]
            got = denoise(model, x, pad, t, cap, (torch.arange(block) >= n)[None, :, None], rope)
            got = unpatchify(got[:, :rows * cols], rows, cols)[0].unsqueeze(1)
            print(f"grid {rows}x{cols}, caption {n}: text differs by {(cap[:, :n] - want_cap).abs().max():.1e}, "
                  f"output by {(got - want).abs().max():.1e} of {want.abs().max():.2f}")


if __name__ == "__main__":
    main()
